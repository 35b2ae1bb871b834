package commands

import (
	"fmt"
	"strings"

	"cloudengine/events"
)

// A golden volume holds the image of a template on one array, so that it is fetched and checked once there, and volumes are copied from it on
// the array's owner. It is an ordinary volume, but belongs to no account, is no disk of a VM, and is never written again. There is one at
// most of a template on an array; it is made for the first volume that is made from the template there, or when it is asked for.

// ImportTemplate puts the image of a template onto an array, before a volume is made from it there, or tries again what has failed.
type ImportTemplate struct {
	Template events.TemplateID `json:"template"`
	Array    events.ArrayID    `json:"array"`
}

func (a ImportTemplate) check() *Rejection {
	return first(checkID("template", string(a.Template)), checkID("array", string(a.Array)))
}

func decideImportTemplate(d *decision, a ImportTemplate) error {
	t, ok := d.s.templates[a.Template]
	if !ok {
		return reject(events.CodeNotFound, "there is no template %s", a.Template)
	}
	if err := d.expect(events.KindTemplate, t.Data.Name); err != nil {
		return err
	}
	mib, err := sizeFor(t, 0)
	if err != nil {
		return err
	}
	x, ok := d.s.storage.arrays[a.Array]
	switch {
	case !ok:
		return reject(events.CodeNotFound, "there is no array %s", a.Array)
	case x.retired:
		return reject(events.CodeConflict, "array %q is being deleted", x.Data.Name)
	}
	if g := d.s.golden(x, t.ID); g != nil {
		return d.retryGolden(g)
	}
	if err := d.freshID(events.KindVolume); err != nil {
		return err
	}
	p := d.s.storage.pools[x.Data.Pool]
	got, ok := take(x.free(), extentsOf(p, mib))
	if !ok {
		return reject(events.CodeNoCapacity, "array %q has not %d MiB free in at most %d pieces for the image of template %q", x.Data.Name, mib, maxSegments, t.Data.Name)
	}
	made := d.newGolden(d.newID(), x, t, got)
	d.startOperation(made.ref(), startTimeout+fillTime(t.Data.DiskBytes))
	return nil
}

// retryGolden: it is there. One that is not ready is waited for, one that has failed is tried again at once.
func (d *decision) retryGolden(g *Volume) error {
	if g.Ready {
		return nil
	}
	if g.Failed != "" {
		d.add(events.KindVolume, string(g.ID), events.VolumeFillRetried{})
	}
	d.startOperation(g.ref(), startTimeout+fillTime(g.Data.SourceBytes))
	return nil
}

// golden finds the golden volume of a template on an array, or nil.
func (s *State) golden(x *Array, t events.TemplateID) *Volume { return s.storage.volumes[x.goldens[t]] }

// newGolden makes a golden volume under an id that was never given.
func (d *decision) newGolden(id string, x *Array, t *Template, segments []events.Segment) *Volume {
	made := events.GoldenCreated{
		Name: d.goldenName(x, t, id), Pool: x.Data.Pool, Array: x.ID, Segments: segments, Template: t.ID,
		Source: t.Data.Disk, SourceBytes: t.Data.DiskBytes, SourceContent: t.Data.DiskContent,
	}
	d.add(events.KindVolume, id, made)
	return &Volume{ID: events.VolumeID(id), Data: made.Volume(), Segments: segments}
}

// goldenName tells people what it is: "debian@gold1". No one else can give such a name. With the same template of another account on the same
// array, or one that is not deleted yet, the end of the id is added.
func (d *decision) goldenName(x *Array, t *Template, id string) string {
	name := t.Data.Name + "@" + x.Data.Name
	if d.freeName(events.KindVolume, "", name) != nil {
		name += "-" + id[strings.LastIndex(id, "-")+1:]
	}
	return name
}

// copySource gives the golden volume on an array that a new volume is copied from, which it makes if there is none and room for it beside taken,
// the new volume's own extents. Empty: there is no room, and the volume's image is fetched.
func (d *decision) copySource(x *Array, t *Template, taken []events.Segment) (id events.VolumeID, ready bool) {
	if g := d.s.golden(x, t.ID); g != nil {
		return g.ID, g.Ready
	}
	mib, err := sizeFor(t, 0)
	if err != nil {
		return "", false
	}
	own := string(events.GoldenID(d.c.Intent))
	got, ok := take(x.free(taken...), extentsOf(d.s.storage.pools[x.Data.Pool], mib))
	if !ok || d.s.versions[events.Ref{Kind: events.KindVolume, ID: own}] > 0 {
		return "", false
	}
	return d.newGolden(own, x, t, got).ID, false
}

// isGolden refuses what golden volumes are not for.
func isGolden(v *Volume, what string) error {
	if v.Golden {
		return reject(events.CodeConflict, "volume %q is the golden volume of a template: it cannot be %s", v.Data.Name, what)
	}
	return nil
}

// copied refuses to end a golden volume that others are being copied from.
func copied(v *Volume) error {
	if v.copies > 0 {
		return reject(events.CodeConflict, "%d volumes are being copied from golden volume %q: wait until they are ready, or delete them", v.copies, v.Data.Name)
	}
	return nil
}

// staleGoldens lists golden volumes whose template is gone and from which nothing is being copied, after what may have made one so.
func (s *State) staleGoldens(r events.Recorded) []events.VolumeID {
	look := false
	for _, e := range r.Events {
		switch e.Data.(type) {
		case events.TemplateDeleted, events.VolumeReady, events.VolumeDeleted:
			look = true
		}
	}
	if !look {
		return nil
	}
	var out []events.VolumeID
	for _, id := range sortedKeys(s.storage.arrays) {
		goldens := s.storage.arrays[id].goldens
		for _, t := range sortedKeys(goldens) {
			if _, there := s.templates[t]; !there && s.storage.volumes[goldens[t]].copies == 0 {
				out = append(out, goldens[t])
			}
		}
	}
	return out
}

// decideDropGolden is a reaction: a golden volume goes after its template.
func decideDropGolden(d *decision, a VolumeRef) error {
	v, ok := d.s.storage.volumes[a.Volume]
	if !ok || !v.Golden || v.Deleted || v.copies > 0 {
		return nil
	}
	if _, there := d.s.templates[v.Data.Template]; there {
		return nil
	}
	d.endVolume(v, "its template was deleted")
	return nil
}

// foldCopies keeps what is known of golden volumes and of those that are copied from them. It runs before the event is folded into the volume.
func (s *State) foldCopies(v *Volume, data events.Payload) {
	array := s.storage.arrays[v.Data.Array]
	source := s.storage.volumes[v.Data.From]
	switch data.(type) {
	case events.GoldenCreated:
		if array.goldens == nil {
			array.goldens = map[events.TemplateID]events.VolumeID{}
		}
		array.goldens[v.Data.Template] = v.ID
	case events.VolumeCreated:
		if source != nil {
			source.copies++
		}
	case events.VolumeReady:
		if source != nil && !v.Ready && !v.Deleted {
			source.copies--
		}
	case events.VolumeDeleted:
		if source != nil && !v.Ready && !v.Deleted {
			source.copies--
		}
		if array.goldens[v.Data.Template] == v.ID {
			delete(array.goldens, v.Data.Template)
		}
	}
}

// failures takes what the owner of an array says of volumes that it could not fill.
func (r *storageReported) failures(have *Array, x events.ArrayReport) {
	for _, f := range x.Failed {
		v, ok := r.d.s.storage.volumes[f.Volume]
		if !ok || v.Data.Array != have.ID || v.Deleted || v.Ready || v.Failed == f.Message || f.Message == "" || x.Generation.Compare(v.Retried) < 0 {
			continue
		}
		r.d.add(events.KindVolume, string(v.ID), events.VolumeFillFailed{Message: f.Message})
		r.d.finish(v.ref(), events.OperationFailed{
			Message: fmt.Sprintf("volume %q could not be filled, and is tried again by itself, later and later", v.Data.Name)}, "import")
	}
}
