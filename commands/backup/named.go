package backup

import (
	"slices"

	"cloudengine/events"
)

// named collects the files that the log names: blobs of templates and VMs that are there, and of volumes that are not filled yet, and values of secrets.
type named struct {
	by map[events.Ref][]string
}

func (n *named) add(b *events.Block) {
	if n.by == nil {
		n.by = map[events.Ref][]string{}
	}
	for _, r := range b.Decisions {
		for _, e := range r.Events {
			switch d := e.Data.(type) {
			case events.TemplateCreated:
				n.by[e.Aggregate] = blobs(d.Kernel, d.Ramdisk, d.Disk)
			case events.VMCreated:
				n.by[e.Aggregate] = blobs(d.Kernel, d.Ramdisk)
			case events.VolumeCreated:
				n.by[e.Aggregate] = blobs(d.Source)
			case events.GoldenCreated:
				n.by[e.Aggregate] = blobs(d.Source)
			case events.SecretSet:
				n.by[e.Aggregate] = []string{dataPrefix + "secrets/" + d.Name + ".sealed"}
			case events.TemplateDeleted, events.VMDeleted, events.VolumeReady, events.VolumeDeleted:
				delete(n.by, e.Aggregate)
			}
		}
	}
}

func blobs(list ...events.Blob) []string {
	var out []string
	for _, b := range list {
		if b.SHA256 != "" {
			out = append(out, dataPrefix+"blobs/"+b.SHA256)
		}
	}
	return out
}

// missing lists what is named and not there.
func (n *named) missing(has func(string) bool) []string {
	var out []string
	for _, names := range n.by {
		for _, name := range names {
			if !has(name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
