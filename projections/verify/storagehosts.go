package verify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
)

// sectorsInMiB: device-mapper counts in sectors of 512 bytes.
const sectorsInMiB = 1 << 20 / 512

const (
	nextMap = "stop the VM before it writes any more; the device is the agent's work: look at its log on the host (/run/cloudengine/noded.log), " +
		"\"cloudengine volume show\" has what the log says"
	nextLeft = "\"cloudengine history volume\" tells who had it; look at the agent's log on the host"
	nextPath = "\"cloudengine array show\" tells who owns the array; look at the host's card on the fabric and at the proxies"
)

// hostsOnFabrics lists the machines with the role host that are on a fabric: they map volumes.
func (c *Cloud) hostsOnFabrics() map[string]bool {
	on := map[string]bool{}
	for _, m := range rows[projections.Member](c, projections.KindMember) {
		if row[projections.Host](c, events.KindHost, m.Machine) != nil {
			on[m.Machine] = true
		}
	}
	return on
}

// maps compares the devices of volumes on a host with the log: each is of its volume's extents alone, and used by nobody but the VM that has a
// grant there (I1, I3).
func (v *storageVisit) maps(m *projections.Machine, l LiveStorage) {
	if l.Maps == nil {
		v.find(Unknown, "maps_unknown", "machine", m.ID, m.Name, "its agent does not know the question which volumes it maps", "", "?",
			"boot it with this release's image (\"cloudengine bootimage\")")
		return
	}
	there := map[string]bool{}
	for _, x := range l.Maps {
		there[string(x.Volume)] = true
		vol := row[projections.Volume](v.c, events.KindVolume, string(x.Volume))
		if vol == nil {
			v.find(Wrong, "map_unknown", "volume", string(x.Volume), "", "host "+m.Name+" has a device of a volume that the log does not know", "none",
				lines(x.Lines), nextLeft)
			continue
		}
		v.mapped(m, vol, x)
	}
	for _, vol := range rows[projections.Volume](v.c, events.KindVolume) {
		if vm := v.runsHere(m, vol); vm != nil && text(vm.DomainState) == events.DomainRunning && !there[vol.ID] {
			v.volume(Wrong, "map_missing", vol, "VM "+vm.Name+" runs on host "+m.Name+", which has no device of it", "a device", "none", nextMap)
		}
	}
	for _, p := range l.Seen.Paths {
		a := string(p.Array)
		if v.inUse[m.ID+a] && p.Usable == 0 {
			v.find(Wrong, "no_path", "array", a, v.c.array(a), "host "+m.Name+" maps volumes of it and has no path that works: their I/O waits", "a path",
				p.Message, nextPath)
		}
	}
}

func (v *storageVisit) volume(s Severity, check string, vol *projections.Volume, what, want, have, next string) {
	moving := underWay(v.operations[vol.ID])
	if vol.VM != nil && moving == "" {
		moving = underWay(v.operations[*vol.VM])
	}
	v.out.Add(Finding{Section: Storage, Severity: s, Check: check, Kind: "volume", ID: vol.ID, Name: vol.Name, What: what, Want: want, Have: have, Next: next,
		Moving: moving})
}

// runsHere gives the VM that a volume is attached to, if it has a live grant on a machine.
func (v *storageVisit) runsHere(m *projections.Machine, vol *projections.Volume) *projections.VM {
	if vol.VM == nil {
		return nil
	}
	vm := row[projections.VM](v.c, events.KindVM, *vol.VM)
	if vm == nil || text(vm.Host) != m.ID || vm.Epoch == nil {
		return nil
	}
	return vm
}

// mapped compares one device with its volume.
func (v *storageVisit) mapped(m *projections.Machine, vol *projections.Volume, x events.MappedReport) {
	v.inUse[m.ID+vol.Array] = true
	want := v.want(vol)
	switch {
	case slices.Equal(want, x.Lines):
	case within(want, x.Lines):
		v.volume(Wrong, "map_short", vol, "host "+m.Name+" maps less of it than it has", lines(want), lines(x.Lines), nextMap)
	default:
		v.volume(Critical, "map_other", vol, "I3: host "+m.Name+" maps sectors that are not the volume's", lines(want), lines(x.Lines), nextMap)
	}
	if x.Unsettled {
		v.volume(Wrong, "map_unsettled", vol, "its device on host "+m.Name+" is suspended, or a change of it was cut off", "settled", "unsettled", nextMap)
	}
	switch vm := v.runsHere(m, vol); {
	case vm != nil:
	case x.Open > 0:
		v.volume(Critical, "map_open", vol, "I1: its device is in use on host "+m.Name+", where no VM that it is attached to has a grant", "not there",
			fmt.Sprintf("open %d times", x.Open), nextLeft)
	default:
		v.volume(Wrong, "map_left", vol, "host "+m.Name+" has a device of it, and no grant for a VM that it is attached to", "not there", lines(x.Lines), nextLeft)
	}
}

// want is what the device of a volume is made of.
func (v *storageVisit) want(vol *projections.Volume) []events.MappedLine {
	a := row[projections.Array](v.c, events.KindArray, vol.Array)
	var segments []events.Segment
	if a == nil || json.Unmarshal(vol.Segments, &segments) != nil {
		return nil
	}
	var out []events.MappedLine
	for _, s := range segments {
		l := events.MappedLine{Array: events.ArrayID(vol.Array), From: uint64(a.StartMiB+s.Start*a.ExtentMiB) * sectorsInMiB,
			Sectors: uint64(s.Count*a.ExtentMiB) * sectorsInMiB}
		if n := len(out); n > 0 && out[n-1].From+out[n-1].Sectors == l.From {
			out[n-1].Sectors += l.Sectors
		} else {
			out = append(out, l)
		}
	}
	return out
}

// within says whether have is the beginning of want: a volume that was grown, whose device was not yet.
func within(want, have []events.MappedLine) bool {
	if len(have) == 0 || len(have) > len(want) {
		return len(have) == 0
	}
	k := len(have) - 1
	return slices.Equal(want[:k], have[:k]) && want[k].Array == have[k].Array && want[k].From == have[k].From && have[k].Sectors <= want[k].Sectors
}

// lines says what a device is made of.
func lines(all []events.MappedLine) string {
	var out []string
	for _, l := range all {
		out = append(out, fmt.Sprintf("sectors %d+%d of array %s", l.From, l.Sectors, l.Array))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}
