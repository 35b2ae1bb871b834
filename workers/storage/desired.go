package storage

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/lio"
)

// Link is a fabric's link that stands now.
type Link struct {
	Fabric    events.FabricID
	Transport string
	Address   netip.Prefix
	RDMA      string // device; empty for iSCSI
	Port      string // see lio.PortName
}

// Record says which document an export of this boot follows.
type Record struct {
	Array events.ArrayID `json:"array"`
	Epoch events.Epoch   `json:"epoch"`
}

// Observed is what a storage node looks like.
type Observed struct {
	Disks   []Disk
	Exports lio.Config
	Links   []Link
	Records map[events.DiskID]Record
}

// export is a document of KindExport.
type export struct {
	desired.Export
	generation events.Generation
}

// wishes are the documents that matter here.
type wishes struct {
	exports map[events.DiskID]export
	broken  map[events.DiskID]string // those that cannot be obeyed, and why
	absent  map[events.FabricID]bool // fabrics that this machine is told to leave
}

// decode reads documents. One that cannot be read has no opinion, and is reported.
func decode(docs []desired.Document) wishes {
	w := wishes{exports: map[events.DiskID]export{}, broken: map[events.DiskID]string{}, absent: map[events.FabricID]bool{}}
	for _, d := range docs {
		switch d.Kind {
		case desired.KindFabric:
			var f desired.Fabric
			if err := json.Unmarshal(d.Body, &f); err != nil || f.Want == desired.Absent {
				w.absent[events.FabricID(d.ID)] = true
			}
		case desired.KindExport:
			id := events.DiskID(d.ID)
			e := export{generation: d.Generation}
			err := json.Unmarshal(d.Body, &e)
			if err == nil {
				err = e.check(id)
			}
			if err != nil {
				w.broken[id] = err.Error()
				e = export{generation: d.Generation}
			}
			w.exports[id] = e
		}
	}
	return w
}

func (e export) check(id events.DiskID) error {
	switch {
	case e.Disk != id:
		return fmt.Errorf("the document of disk %s is about disk %s", id, e.Disk)
	case (e.Want == desired.There || e.Want == desired.Wiped) && events.DiskIDOf(e.Serial) != id:
		return fmt.Errorf("serial number %q is not of disk %s", e.Serial, id)
	case e.Want == desired.There && e.UnitSerial == "":
		return fmt.Errorf("disk %s has no unit serial", id)
	case e.Want == desired.Wiped && (e.Array == "" || len(e.To) > 0):
		return fmt.Errorf("disk %s is to be wiped of array %q and given to %d machines", id, e.Array, len(e.To))
	case e.Want != desired.There && e.Want != desired.Absent && e.Want != desired.Wiped && e.Want != "":
		return fmt.Errorf("what is wanted of disk %s is not known: %q", id, e.Want)
	}
	return nil
}

func (e export) wants(m events.MachineID) bool {
	return e.Want == desired.There && slices.ContainsFunc(e.To, func(p desired.Peer) bool { return p.Machine == m })
}

// wanted says what shall be exported, and for each disk why not all that its document asks for can be.
func wanted(w wishes, seen Observed) (lio.Config, map[events.DiskID]string) {
	b := builder{wishes: w, seen: seen, problems: maps.Clone(w.broken), grants: map[string][]lio.Grant{}, disks: map[string]Disk{}}
	for _, d := range seen.Disks {
		if _, twice := b.disks[d.Serial]; !twice {
			b.disks[d.Serial] = d
		}
	}
	b.links = slices.DeleteFunc(slices.Clone(seen.Links), func(l Link) bool { return w.absent[l.Fabric] || l.Port == "" })
	for _, id := range slices.Sorted(maps.Keys(w.exports)) {
		switch e := w.exports[id]; e.Want {
		case desired.There:
			b.there(id, e)
		case desired.Absent, desired.Wiped:
		default:
			b.keep(id)
		}
	}
	for _, s := range seen.Exports.Backstores {
		if _, ok := w.exports[events.DiskID(s.Name)]; !ok {
			b.keep(events.DiskID(s.Name))
		}
	}
	b.ports()
	return b.want, b.problems
}

type builder struct {
	wishes   wishes
	seen     Observed
	links    []Link
	want     lio.Config
	grants   map[string][]lio.Grant // by port
	disks    map[string]Disk        // that are here, by serial number
	problems map[events.DiskID]string
}

// keep leaves an export as it is.
func (b *builder) keep(id events.DiskID) {
	for _, s := range b.seen.Exports.Backstores {
		if s.Name == string(id) && s.Ready {
			b.want.Backstores = append(b.want.Backstores, s)
			for _, p := range b.seen.Exports.Ports {
				for _, g := range p.Grants {
					if g.Backstore == s.Name && g.Ready {
						b.grants[p.Name] = append(b.grants[p.Name], g)
					}
				}
			}
		}
	}
}

// there is an export that shall be as its document says.
func (b *builder) there(id events.DiskID, e export) {
	d, ok := b.disks[e.Serial]
	if !ok {
		b.problems[id] = fmt.Sprintf("no disk with serial number %s is here", e.Serial)
		return
	}
	b.want.Backstores = append(b.want.Backstores, lio.Backstore{Name: string(id), Device: "/dev/" + d.Name, DevNo: d.DevNo, UnitSerial: e.UnitSerial})
	for _, p := range e.To {
		if err := b.give(id, e, p); err != nil {
			b.problems[id] = err.Error()
		}
	}
}

func (b *builder) give(id events.DiskID, e export, p desired.Peer) error {
	i := slices.IndexFunc(b.links, func(l Link) bool { return l.Fabric == e.Fabric })
	if i < 0 {
		return fmt.Errorf("the link of fabric %s does not stand", e.Fabric)
	}
	name, err := lio.Initiator(b.links[i].Transport, p.Machine, p.MAC)
	if err != nil {
		return err
	}
	g := lio.Grant{Machine: p.Machine, Initiator: name, Backstore: string(id)}
	if b.seen.lower(id, e) && !b.seen.given(b.links[i].Port, g) {
		return fmt.Errorf("epoch %s is older than %s, which was obeyed before: nothing new is given", e.Epoch, b.seen.Records[id].Epoch)
	}
	b.grants[b.links[i].Port] = append(b.grants[b.links[i].Port], g)
	return nil
}

// lower says whether a document is of an epoch that a later owner of the same array has followed.
func (o Observed) lower(id events.DiskID, e export) bool {
	r, ok := o.Records[id]
	return ok && r.Array == e.Array && e.Epoch.Compare(r.Epoch) < 0
}

func (o Observed) given(port string, g lio.Grant) bool {
	for _, p := range o.Exports.Ports {
		for _, h := range p.Grants {
			if p.Name == port && h.Ready && h.Initiator == g.Initiator && h.Machine == g.Machine && h.Backstore == g.Backstore {
				return true
			}
		}
	}
	return false
}

// ports collects where links stand, with all iSCSI addresses on the machine's one target. Where nothing is given no port is made.
func (b *builder) ports() {
	for _, l := range b.links {
		i := slices.IndexFunc(b.want.Ports, func(p lio.Port) bool { return p.Name == l.Port && p.Transport == l.Transport })
		if i < 0 {
			there := slices.ContainsFunc(b.seen.Exports.Ports, func(p lio.Port) bool { return p.Name == l.Port && p.Transport == l.Transport })
			if len(b.grants[l.Port]) == 0 && !there {
				continue
			}
			b.want.Ports = append(b.want.Ports, lio.Port{Transport: l.Transport, Name: l.Port, Grants: b.grants[l.Port]})
			i = len(b.want.Ports) - 1
		}
		if l.Transport == lio.ISCSI {
			b.want.Ports[i].Addresses = append(b.want.Ports[i].Addresses, l.Address.Addr().String())
		}
	}
}
