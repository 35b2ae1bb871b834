package proxy

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/dm"
)

// The kinds of steps. The target is the array's id, but for stepLogin to stepRescan, where it is a machine's, and stepHalt: md's name.
const (
	stepLogin    = "login"    // to a storage node
	stepLogout   = "logout"   //
	stepRescan   = "rescan"   // look for new LUNs
	stepState    = "state"    // of the export
	stepClose    = "close"    // the front: do what is under way, then let all fail
	stepDisown   = "disown"   // remove the owner device
	stepStop     = "stop"     // md
	stepHalt     = "halt"     // an md array of which nothing is known
	stepFront    = "front"    // make a closed front
	stepUnfront  = "unfront"  // remove it
	stepExport   = "export"   //
	stepUnexport = "unexport" //
	stepCreate   = "create"   // write superblocks, and own
	stepAssemble = "assemble" // and own
	stepRecord   = "record"   // make LVM's volume group
	stepOpen     = "open"     // lead the front to the array
	stepThaw     = "thaw"     // let md recover again
	stepFreeze   = "freeze"   // let md copy and compare nothing
	stepSpeed    = "speed"    // bound what md copies and compares
	stepCheck    = "check"    // begin to compare all copies
	stepFail     = "fail"     // a member
	stepRemove   = "remove"   // a faulty member
	stepLock     = "lock"     // reserve a leg, for us alone
	stepUnlock   = "unlock"   // take our key back; the target is an NAA
	stepJoin     = "join"     // a leg to its slot
	stepReplace  = "replace"  // a leg by a new disk, which is filled first
	stepZero     = "zero"     // a part of the front
	stepFill     = "fill"     // a volume from its source
	stepExtend   = "extend"   // a volume's record
	stepDrop     = "drop"     // a volume's record
)

// kindMD is the kind of object that an md array is of which nothing is known, kindSession a login's, kindLock a reservation's that no array has a
// use for.
const (
	kindMD      events.Kind = "md_array"
	kindSession events.Kind = "session"
	kindLock    events.Kind = "reservation"
)

// patience is how long an array waits for legs that are not there before it is assembled without them: their nodes may be a little later
// with their exports than this proxy with its document. It is within what hosts wait for a takeover.
const patience = 10 * time.Second

// grace is how long an array that was assembled under a document stays without one: a new term ends all documents, and they are said again.
const grace = 10 * time.Second

// Ages by which plans are made.
func ageActive(id events.ArrayID, e events.Epoch) string {
	return "active/" + string(id) + "/" + e.String()
}
func ageOrphan(id events.ArrayID) string { return "orphan/" + string(id) }

// PlanArrays says what must be done so that what is seen becomes what is wanted. Pure, total, deterministic; one plan per object.
func PlanArrays(wishes []Wish, seen Observed) []workers.Plan {
	var plans []workers.Plan
	for _, id := range seen.ids(wishes) {
		p := planFor(id, wishes, seen)
		if len(p.steps) > 0 {
			plan := workers.Plan{Object: events.Ref{Kind: desired.KindArray, ID: string(id)}, Urgent: p.urgent, Steps: p.steps}
			if p.v.wish != nil {
				plan.Generation = p.v.wish.Generation
			}
			plans = append(plans, plan)
		}
	}
	for _, a := range seen.MD {
		if a.ID == "" {
			plans = append(plans, workers.Plan{Object: events.Ref{Kind: kindMD, ID: a.Name}, Urgent: true, Steps: []workers.Step{
				{Kind: stepHalt, Target: a.Name, Why: "no document is about this md array"},
			}})
		}
	}
	plans = append(plans, planKeys(wishes, seen)...)
	plans = append(plans, planSessions(wishes, seen)...)
	sort.SliceStable(plans, func(i, j int) bool { return plans[i].Object.String() < plans[j].Object.String() })
	return plans
}

func planFor(id events.ArrayID, wishes []Wish, seen Observed) *planner {
	p := &planner{seen: seen}
	var wish *Wish
	for i := range wishes {
		if wishes[i].Array.Array == id {
			wish = &wishes[i]
		}
	}
	p.v = seen.view(id, wish)
	p.plan()
	return p
}

// planner makes the plan for one array, and notes what keeps it from what is wanted.
type planner struct {
	v      view
	seen   Observed
	steps  []workers.Step
	notes  []string
	urgent bool
	broken bool // it runs, and cannot serve
	wiped  []events.VolumeID
	ready  []events.VolumeID
	failed []events.FillFailure
	fills  []events.FillProgress
	bulk   int // steps that move much data
}

// bulkSteps bounds how many steps of one plan zero or fill, so that legs that come back, and reservations that are lost, are looked at in between.
const bulkSteps = 8

// mayMove says whether one more step of that kind may be planned. None is with a step about legs: those come first.
func (p *planner) mayMove() bool {
	if p.bulk >= bulkSteps {
		return false
	}
	p.bulk++
	return true
}

func (p *planner) do(kind, why string, params ...string) {
	s := workers.Step{Kind: kind, Target: string(p.v.id), Why: why}
	for i := 0; i+1 < len(params); i += 2 {
		if s.Params == nil {
			s.Params = map[string]string{}
		}
		s.Params[params[i]] = params[i+1]
	}
	p.steps = append(p.steps, s)
}

func (p *planner) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// plan: what must not be comes first, and alone; then what is wanted.
func (p *planner) plan() {
	w := p.v.wish
	switch {
	case w == nil:
		p.undocumented()
	case w.ends():
		if !p.v.givenUp() {
			p.giveUp(ExportStandby, "the document says "+w.Want)
			p.note("it is being given up")
			return
		}
		p.rest()
	case !w.active(), w.Wrong != "":
		p.unclear()
	default:
		p.active()
	}
}

// undocumented: an array without a document. What was assembled under one keeps for a while: see grace.
func (p *planner) undocumented() {
	if p.v.givenUp() {
		return
	}
	p.note("no document is about it")
	if why := p.robbedMember(); why != "" {
		p.note("%s", why)
		p.giveUp(ExportUnavailable, why)
		return
	}
	if p.assembledHere() && p.seen.Ages[ageOrphan(p.v.id)] < grace {
		return
	}
	p.giveUp(ExportUnavailable, "no document of this boot is about it")
}

// assembledHere says that each md array was assembled by this package: an owner device is over it.
func (p *planner) assembledHere() bool {
	return len(p.v.arrays) == 0 || len(p.v.arrays) == 1 && over(p.v.own, p.v.arrays[0].DevNo)
}

// unclear: a document without an opinion, or one that cannot be carried out. Nothing changes, but for an array that assembled itself, or that somebody
// else has taken.
func (p *planner) unclear() {
	if p.v.wish.Wrong != "" {
		p.note("%s", p.v.wish.Wrong)
	}
	why := p.robbedMember()
	if !p.assembledHere() {
		why = "md runs, and was not assembled by us"
	}
	if why != "" {
		p.giveUp(ExportUnavailable, why)
	}
}

// giveUp ends what is written here, in the order in which nothing is lost: hosts go elsewhere, what is under way is done, md is stopped.
func (p *planner) giveUp(state, why string) {
	p.urgent = true
	v := p.v
	if v.export != nil && v.export.State == ExportActive {
		p.do(stepState, why, "state", state)
	}
	if v.front != nil && !v.closed() {
		p.do(stepClose, why)
	}
	if v.own != nil {
		p.do(stepDisown, why)
	}
	for _, a := range v.arrays {
		p.do(stepStop, why, "md", a.Name)
	}
}

// rest: the array is given up. On a standby hosts find it, closed; else nothing is left of it.
func (p *planner) rest() {
	v, w := p.v, p.v.wish
	if w.Want == desired.Absent {
		if v.export != nil {
			p.do(stepUnexport, "the document says absent")
		}
		if v.front != nil {
			p.do(stepUnfront, "the document says absent")
		}
		return
	}
	if w.Sectors == 0 {
		p.note("its size is not known")
		return
	}
	p.closedFront()
	p.export(ExportStandby)
}

// closedFront makes the front, or gives it its size.
func (p *planner) closedFront() {
	if f := p.v.front; f == nil || !p.v.closed() || dm.Sectors(f.Table) != p.v.wish.Sectors {
		p.do(stepFront, "it has no front of its size", "sectors", strconv.FormatUint(p.v.wish.Sectors, 10))
	}
}

// export makes the export what it should be.
func (p *planner) export(state string) {
	w, have := p.v.wish, p.v.export
	if w.Transport == "" {
		p.note("fabric %s is not known here", w.Fabric)
		return
	}
	want := Export{Array: w.Array.Array, Fabric: w.Fabric, Transport: w.Transport, Device: dm.Path(FrontName(p.v.id)), UnitSerial: w.UnitSerial,
		Group: w.Group, State: state, To: w.Initiators, Peers: w.To}
	if have != nil && same(*have, want) {
		return
	}
	body, err := json.Marshal(want)
	if err != nil {
		p.note("encode export: %v", err)
		return
	}
	p.do(stepExport, "hosts find something else", "export", string(body))
}

func same(a, b Export) bool {
	return (a.Transport == b.Transport || len(a.To) == 0) && a.Device == b.Device && a.UnitSerial == b.UnitSerial && a.Group == b.Group && a.State == b.State &&
		strings.Join(a.To, " ") == strings.Join(b.To, " ")
}

// active: it is ours. First whatever runs under another epoch, was taken by somebody else, or does not serve, ends.
func (p *planner) active() {
	v := p.v
	if v.noKey != nil {
		p.note("%v", v.noKey)
	}
	if len(v.arrays) == 0 {
		if !v.givenUp() {
			p.giveUp(ExportUnavailable, "md does not run")
			return
		}
		p.closedFront()
		p.export(ExportUnavailable)
		p.birth()
		return
	}
	if !v.owned() {
		p.note("it runs under epoch %s, not under %s", v.epoch(), v.wish.Epoch)
		p.giveUp(ExportUnavailable, "it was not assembled under this document's epoch")
		return
	}
	why := v.robbed()
	if why == "" {
		_, why = v.serves()
	}
	if why != "" {
		p.broken = true
		p.note("%s", why)
		p.giveUp(ExportUnavailable, why)
		return
	}
	if have := v.arrays[0].Sectors; have < v.wish.Sectors {
		p.note("md has %d sectors, the document %d", have, v.wish.Sectors)
		return
	}
	if p.records() {
		if !v.opened() {
			p.do(stepOpen, "the front leads elsewhere", "epoch", v.wish.Epoch.String(), "sectors", strconv.FormatUint(v.wish.Sectors, 10))
		}
		p.export(ExportActive)
	}
	before := len(p.steps)
	p.locks()
	if p.members(); len(p.steps) > before {
		p.bulk = bulkSteps
	}
	if v.opened() {
		p.volumes()
	}
}

// records makes LVM's volume group on a new array, before anybody has it. It says whether the front may be opened: on an array that was made
// before that is so even if its records cannot be read, for what is on it is not their matter.
func (p *planner) records() bool {
	v, r := p.v, p.v.record
	switch {
	case r == nil: // being read: hosts of an array that was made need not wait for that
		return !v.wish.Create || v.opened()
	case r.Err != nil:
		p.note("its records cannot be read: %v", r.Err)
		return !v.wish.Create || v.opened()
	case !r.Found && v.wish.Create && !v.opened():
		p.do(stepRecord, "it is new", "start", strconv.Itoa(v.wish.StartMiB), "extent", strconv.Itoa(v.wish.ExtentMiB))
		return true
	case !r.Found:
		p.note("its records are gone: a human must write them again")
	}
	return true
}
