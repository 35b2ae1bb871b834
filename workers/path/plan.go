package path

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/dm"
)

// The kinds of steps.
const (
	stepLogin  = "login"  // to a proxy; target: its machine
	stepRescan = "rescan" // what it gives us
	stepLogout = "logout"
	stepMap    = "map"   // make the map of an array; target: its name
	stepRemap  = "remap" // give it other paths, or more size
	stepUnmap  = "unmap" // take it away
	stepCut    = "cut"   // make the device of a volume; target: its name
	stepRecut  = "recut" // give it more size
	stepUncut  = "uncut" // take it away
)

// kindSession is the kind of object that a login is in plans; no document is about one.
const kindSession events.Kind = "storage_session"

// PlanPaths says what must be done so that each array that is wanted has its paths and each disk its device. Pure, total and
// deterministic; one plan per login, map and device, so that a proxy that does not answer holds up nothing else.
func PlanPaths(docs []desired.Document, seen Observed) []workers.Plan {
	p := planner{w: read(docs), seen: seen}
	p.logins()
	p.logouts()
	for _, id := range slices.Sorted(maps.Keys(p.w.arrays)) {
		p.array(p.w.arrays[id])
	}
	for _, id := range slices.Sorted(maps.Keys(p.w.disks)) {
		p.disk(p.w.disks[id])
	}
	p.leftovers()
	slices.SortStableFunc(p.plans, func(a, b workers.Plan) int { return strings.Compare(a.Object.String(), b.Object.String()) })
	return p.plans
}

type planner struct {
	w     wishes
	seen  Observed
	plans []workers.Plan
}

func (p *planner) do(kind events.Kind, id string, g events.Generation, steps ...workers.Step) {
	p.plans = append(p.plans, workers.Plan{Object: events.Ref{Kind: kind, ID: id}, Generation: g, Steps: steps})
}

func onTarget(kind string, t Target, why string) workers.Step {
	return workers.Step{Kind: kind, Target: string(t.Machine), Params: map[string]string{"transport": t.Transport, "address": t.Address}, Why: why}
}

// logins: to every proxy of every wanted array, and again a look at what it gives us while that is not all.
func (p *planner) logins() {
	type need struct {
		generation events.Generation
		rescan     []string
	}
	needs := map[Target]*need{}
	for _, id := range slices.Sorted(maps.Keys(p.w.arrays)) {
		a := p.w.arrays[id]
		for _, t := range a.targets {
			if !a.wanted() {
				continue
			}
			n := needs[t]
			if n == nil {
				n = &need{}
				needs[t] = n
			}
			if n.generation.Compare(a.generation) < 0 {
				n.generation = a.generation
			}
			if why := p.unseen(a, t); why != "" {
				n.rescan = append(n.rescan, why)
			}
		}
	}
	for _, t := range slices.SortedFunc(maps.Keys(needs), compareTargets) {
		n := needs[t]
		switch live, there := p.seen.live(t); {
		case !there:
			p.do(kindSession, sessionID(t), n.generation, onTarget(stepLogin, t, "there is no session"))
		case !live:
			p.do(kindSession, sessionID(t), n.generation, onTarget(stepLogin, t, "its session does not work"))
		case len(n.rescan) > 0:
			p.do(kindSession, sessionID(t), n.generation, onTarget(stepRescan, t, strings.Join(n.rescan, "; ")))
		}
	}
}

func sessionID(t Target) string { return t.Transport + ":" + string(t.Machine) }

func compareTargets(a, b Target) int {
	return cmp.Or(cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Address, b.Address))
}

// unseen says what is missing of an array at a proxy that we are logged in to.
func (p *planner) unseen(a *arrayWish, t Target) string {
	var most, here int64
	for _, l := range p.seen.LUNs {
		if l.NAA != a.NAA {
			continue
		}
		most = max(most, l.Bytes)
		if l.Target == t {
			here = max(here, l.Bytes)
		}
	}
	switch {
	case here == 0:
		return "array " + string(a.Array) + " is not among what it gives"
	case here < max(most, a.needs):
		return fmt.Sprintf("array %s has %d bytes there, and should have %d", a.Array, here, max(most, a.needs))
	}
	return ""
}

// logouts: from machines that no document names, once no map uses what they give. Without any document nothing is known.
func (p *planner) logouts() {
	wanted := map[events.MachineID]bool{}
	for _, a := range p.w.arrays {
		for _, f := range a.From {
			wanted[f.Machine] = wanted[f.Machine] || a.wanted()
		}
	}
	used := map[string]bool{}
	for _, d := range p.seen.Devices {
		for _, path := range d.Paths {
			used[path.DevNo] = true
		}
	}
	for _, s := range p.seen.Sessions {
		inUse := slices.ContainsFunc(p.seen.LUNs, func(l LUN) bool { return l.Target == s.Target && used[l.DevNo] })
		if s.Target.Machine == "" || wanted[s.Target.Machine] || inUse || len(p.w.arrays) == 0 {
			continue
		}
		p.do(kindSession, sessionID(s.Target), events.Generation{}, onTarget(stepLogout, s.Target, "no array is wanted from it"))
	}
}

// array: its map.
func (p *planner) array(a *arrayWish) {
	name := MapName(a.Array)
	dev, there := p.seen.device(MapUUID(a.Array))
	if !a.wanted() {
		if a.Want == desired.Absent && there && dev.Open == 0 && a.disks == 0 && len(p.seen.users(dev.DevNo)) == 0 {
			p.do(desired.KindPath, string(a.Array), a.generation, workers.Step{Kind: stepUnmap, Target: name, Why: "the array is not wanted here"})
		}
		return
	}
	bytes, paths := candidates(a, p.seen, dev)
	if len(paths) == 0 {
		return // what waits in the map goes on waiting
	}
	kind, why := stepRemap, ""
	switch have := pathNumbers(dev); {
	case !there:
		kind, why = stepMap, "it has no map"
	case dev.Unsettled || len(dev.Table) == 0:
		why = "an earlier change was cut off"
	case bytes > dev.Bytes():
		why = fmt.Sprintf("the array has grown: it has %d bytes", bytes)
	case !slices.Equal(have, slices.Sorted(slices.Values(paths))):
		why = "its paths are " + strings.Join(have, " ")
	default:
		return
	}
	p.do(desired.KindPath, string(a.Array), a.generation, workers.Step{Kind: kind, Target: name, Why: why, Params: map[string]string{
		"uuid": MapUUID(a.Array), "bytes": strconv.FormatInt(bytes, 10), "paths": strings.Join(paths, " "),
	}})
}

func pathNumbers(d Device) []string {
	out := make([]string, 0, len(d.Paths))
	for _, x := range d.Paths {
		out = append(out, x.DevNo)
	}
	slices.Sort(out)
	return out
}

// candidates chooses the paths of an array's map, by the machines that they lead to, and its size. A map never shrinks; a path whose size is
// not known to have grown yet stays out of it. A path that does not work is kept, but not taken anew: the kernel could not open it.
func candidates(a *arrayWish, seen Observed, dev Device) (bytes int64, devNos []string) {
	have := pathNumbers(dev)
	var ours []LUN
	for _, l := range seen.LUNs {
		_, held := slices.BinarySearch(have, l.DevNo)
		if l.NAA == a.NAA && l.Bytes > 0 && (held || l.State == "running") && slices.Contains(a.targets, l.Target) {
			ours = append(ours, l)
			bytes = max(bytes, l.Bytes)
		}
	}
	bytes = max(bytes, dev.Bytes())
	slices.SortStableFunc(ours, func(x, y LUN) int {
		return cmp.Or(compareTargets(x.Target, y.Target), strings.Compare(x.DevNo, y.DevNo))
	})
	for _, l := range ours {
		if l.Bytes >= bytes {
			devNos = append(devNos, l.DevNo)
		}
	}
	return bytes - bytes%dm.SectorSize, devNos
}

// disk: the device of a volume, over the map of its array.
func (p *planner) disk(d diskWish) {
	dev, there := p.seen.device(VolumeUUID(d.Volume))
	table, m, err := tableOf(p.w, p.seen, d)
	if err != nil {
		return // told in the report, and by who needs the device
	}
	step := func(kind, why string) workers.Step {
		return workers.Step{Kind: kind, Target: VolumeName(d.Volume), Why: why, Params: map[string]string{
			"uuid": VolumeUUID(d.Volume), "table": printTable(table), "vm": string(d.vm),
		}}
	}
	object := string(d.Volume)
	switch {
	case !there:
		p.do(events.KindVolume, object, d.generation, step(stepCut, "it is a disk of VM "+string(d.vm)))
	case !dev.Unsettled && slices.Equal(dev.Table, table):
	case grows(dev.Table, table) && m.usable() > 0: // what is under way is waited for: without a path that takes for ever
		p.do(events.KindVolume, object, d.generation, step(stepRecut, fmt.Sprintf("it has %d bytes", dev.Bytes())))
	case !grows(dev.Table, table) && dev.Open == 0:
		uncut := workers.Step{Kind: stepUncut, Target: dev.Name, Why: "it maps other extents than its document says"}
		p.do(events.KindVolume, object, d.generation, uncut, step(stepCut, "it is a disk of VM "+string(d.vm)))
	}
}

// tableOf gives the table that a disk's device should have and the map that it lies on, or why there can be none yet.
func tableOf(w wishes, seen Observed, d diskWish) ([]Line, Device, error) {
	a := w.arrays[d.Array]
	switch {
	case a == nil || !a.wanted():
		return nil, Device{}, fmt.Errorf("volume %s: no document asks for paths to array %s", d.Volume, d.Array)
	case a.NAA != d.NAA:
		return nil, Device{}, fmt.Errorf("volume %s: its array is %s, and %s is known by that id: %w", d.Volume, d.NAA, a.NAA, errTable)
	}
	m, ok := seen.device(MapUUID(d.Array))
	if !ok || len(m.Table) == 0 {
		return nil, Device{}, fmt.Errorf("volume %s: there is no path to array %s yet", d.Volume, d.Array)
	}
	table, needs, err := volumeTable(d.Disk, m.DevNo)
	if err == nil && needs > m.Bytes() {
		err = fmt.Errorf("volume %s ends at %d bytes of array %s, which has %d", d.Volume, needs, d.Array, m.Bytes())
	}
	if dev, there := seen.device(VolumeUUID(d.Volume)); err == nil && there && !grows(dev.Table, table) && dev.Open > 0 {
		err = fmt.Errorf("volume %s is in use, and mapped to other extents than its document says: %w", d.Volume, errTable)
	}
	return table, m, err
}

// leftovers: devices of volumes that no document names and nobody has open.
func (p *planner) leftovers() {
	for _, d := range p.seen.Devices {
		id, ok := volumeOf(d.UUID)
		if _, wanted := p.w.disks[id]; ok && !wanted && d.Open == 0 && p.w.any {
			p.do(events.KindVolume, string(id), events.Generation{}, workers.Step{Kind: stepUncut, Target: d.Name, Why: "no domain has it any more"})
		}
	}
}
