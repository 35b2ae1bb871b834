package path

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Report says what was seen of each array that is wanted or still has a map here, by array. Arrays whose map is being changed are left out.
func Report(docs []desired.Document, seen Observed, busy map[events.Ref]bool) events.StorageReport {
	w := read(docs)
	ids := map[events.ArrayID]bool{}
	for id, a := range w.arrays {
		ids[id] = a.wanted()
	}
	for _, d := range seen.Devices {
		if id, ok := arrayOf(d.UUID); ok {
			ids[id] = true
		}
	}
	var out events.StorageReport
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if ids[id] && !busy[events.Ref{Kind: desired.KindPath, ID: string(id)}] {
			out.Paths = append(out.Paths, reportOf(w, seen, id))
		}
	}
	return out
}

func reportOf(w wishes, seen Observed, id events.ArrayID) events.PathReport {
	dev, there := seen.device(MapUUID(id))
	r := events.PathReport{Array: id, Paths: len(dev.Paths), Usable: dev.usable()}
	var says []string
	a := w.arrays[id]
	switch {
	case a == nil:
		says = append(says, "no document is about this array")
	case len(a.targets) == 0 && len(a.From) > 0:
		says = append(says, "this host is not told how it is attached to fabric "+string(a.Fabric))
	case len(a.targets) == 0:
		says = append(says, "no proxy exports it")
	case !a.wanted():
		says = append(says, "it is not wanted and still in use")
	}
	if there && r.Usable == 0 {
		says = append(says, "no path works: I/O waits")
	}
	if a != nil {
		says = append(says, missing(a, seen, dev)...)
		for _, v := range slices.Sorted(maps.Keys(w.disks)) {
			if _, _, err := tableOf(w, seen, w.disks[v]); err != nil && w.disks[v].Array == id && there {
				says = append(says, err.Error())
			}
		}
	}
	r.Message = strings.Join(says, "; ")
	return r
}

// missing says of each proxy why there is no path through it.
func missing(a *arrayWish, seen Observed, dev Device) []string {
	var says []string
	have := pathNumbers(dev)
	for _, t := range a.targets {
		if !a.wanted() {
			break
		}
		why := "does not give it"
		live, there := seen.live(t)
		for _, l := range seen.LUNs {
			if l.Target != t || l.NAA != a.NAA {
				continue
			}
			if _, in := slices.BinarySearch(have, l.DevNo); in {
				why = ""
				break
			}
			why = fmt.Sprintf("gives it as %s, which is %s and not in the map", l.Dev, l.State)
		}
		switch {
		case !there:
			why = "has no session with this host"
		case !live:
			why = "has lost its session with this host"
		}
		if why != "" {
			says = append(says, "proxy "+string(t.Machine)+" "+why)
		}
	}
	return says
}
