package path

import (
	"encoding/json"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// arrayWish is what a document wants of the paths to one array.
type arrayWish struct {
	desired.Path
	generation events.Generation
	targets    []Target // proxies, by machine; none while the document of the fabric is not here
	needs      int64    // bytes of the array that disks of domains lie on
	disks      int      // that lie on it
}

func (a *arrayWish) wanted() bool { return a.Want == desired.There }

// diskWish is a disk that a document names.
type diskWish struct {
	desired.Disk
	generation events.Generation
	vm         events.VMID
}

// wishes are all documents that concern paths and disks, read. Those that cannot be read have no opinion.
type wishes struct {
	any    bool // there are documents at all; without any, nothing is known
	arrays map[events.ArrayID]*arrayWish
	disks  map[events.VolumeID]diskWish
}

func read(docs []desired.Document) wishes {
	w := wishes{any: len(docs) > 0, arrays: map[events.ArrayID]*arrayWish{}, disks: map[events.VolumeID]diskWish{}}
	transports := map[events.FabricID]string{}
	for _, d := range docs {
		switch d.Kind {
		case desired.KindFabric:
			var f desired.Fabric
			if json.Unmarshal(d.Body, &f) == nil && string(f.Fabric) == d.ID && f.Want == desired.There {
				transports[f.Fabric] = f.Transport
			}
		case desired.KindPath:
			var p desired.Path
			if json.Unmarshal(d.Body, &p) == nil && string(p.Array) == d.ID && p.Want != "" {
				w.arrays[p.Array] = &arrayWish{Path: p, generation: d.Generation}
			}
		case desired.KindDomain:
			w.domain(d)
		}
	}
	for _, a := range w.arrays {
		a.reach(transports[a.Fabric])
	}
	for _, d := range w.disks {
		if a := w.arrays[d.Array]; a != nil {
			a.disks++
			if _, needs, err := volumeTable(d.Disk, ""); err == nil {
				a.needs = max(a.needs, needs)
			}
		}
	}
	return w
}

// domain takes the disks of a domain that may be there. Of a volume that two name, the newer document counts.
func (w *wishes) domain(d desired.Document) {
	b, err := d.Domain()
	if err != nil || string(b.VM) != d.ID || b.Want == desired.Absent {
		return
	}
	for _, disk := range b.Disks {
		have, twice := w.disks[disk.Volume]
		if !twice || have.generation.Compare(d.Generation) < 0 {
			w.disks[disk.Volume] = diskWish{disk, d.Generation, b.VM}
		}
	}
}

// reach says how the proxies are reached.
func (a *arrayWish) reach(transport string) {
	if transport == "" {
		return
	}
	for _, p := range a.From {
		a.targets = append(a.targets, Target{Transport: transport, Machine: p.Machine, Address: p.Address})
	}
	slices.SortFunc(a.targets, func(x, y Target) int { return strings.Compare(string(x.Machine), string(y.Machine)) })
}
