package host

import (
	"fmt"
	"sort"
	"strconv"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// The kinds of steps. The target of stepCreate to stepStart is the new domain's name, of stepFetch a digest, of stepDisk a volume,
// of stepSeed and stepUnseed a seed, of all others a domid.
const (
	stepFetch    = "fetch"    // a file of a template, by its digest
	stepDisk     = "disk"     // wait until the device of a volume stands
	stepNIC      = "nic"      // wait until a network stands
	stepSeed     = "seed"     // a small disk that tells a guest who it is
	stepCreate   = "create"   // a domain, paused
	stepStamp    = "stamp"    // for which grant it was made
	stepVerify   = "verify"   // that the stamp and the UUID are what they should be
	stepAttached = "attached" // that its disks are those of its document
	stepStart    = "start"    // unpause it for the first time
	stepPause    = "pause"    //
	stepUnpause  = "unpause"  //
	stepWeight   = "weight"   // of the credit scheduler
	stepResize   = "resize"   // RAM and vCPUs of a domain that runs
	stepEndModel = "endmodel" // a device model whose domain is gone
	stepAsk      = "ask"      // the guest to shut down
	stepDestroy  = "destroy"  //
	stepUnmake   = "unmake"   // destroy what a destroy that was cut off has left: xenstore knows nothing of it
	stepForget   = "forget"   // a stamp whose domain is gone
	stepUnseed   = "unseed"   // take away a seed that no domain has
	stepTakeOver = "takeover" // stamp a domain that a human gave to a VM
)

// kindModel is the kind of object that a device model is in plans; no document is about one.
const kindModel events.Kind = "device_model"

// askAgain is the time after which a guest that was asked to shut down is asked again.
const askAgain = 10 * time.Second

// PlanDomains says what must be done so that what is seen becomes what is wanted. Pure, total, deterministic; one plan per object.
func PlanDomains(wishes []Wish, orphans []OrphanWish, seen Observed) []workers.Plan {
	x := seen.index()
	var plans []workers.Plan
	ours := map[string]bool{}
	for _, w := range wishes {
		ours[string(w.VM)] = true
		p := planner{w: w, seen: seen, f: seen.familyOf(w, x), seeds: x.seeds[w.VM]}
		if w.wantsDomain() && w.Adopt != "" && p.f.current == nil {
			ours[w.Adopt] = true
		}
		p.plan()
		if len(p.steps) > 0 {
			plans = append(plans, workers.Plan{Object: w.object(), Generation: w.Generation, Urgent: p.urgent, Steps: p.steps})
		}
	}
	for _, o := range orphans {
		if steps := planOrphan(o, seen, ours); len(steps) > 0 {
			plans = append(plans, workers.Plan{Object: events.Ref{Kind: desired.KindOrphan, ID: o.UUID}, Generation: o.Generation, Steps: steps})
		}
	}
	plans = append(plans, leftSeeds(x, ours)...)
	for _, id := range x.left {
		plans = append(plans, workers.Plan{Object: events.Ref{Kind: kindModel, ID: strconv.Itoa(id)}, Steps: []workers.Step{
			{Kind: stepEndModel, Target: strconv.Itoa(id), Why: "its domain is gone"},
		}})
	}
	sort.SliceStable(plans, func(i, j int) bool { return plans[i].Object.String() < plans[j].Object.String() })
	return plans
}

// planOrphan destroys the domains of a UUID that a document says shall go, unless a VM that we know has them.
func planOrphan(o OrphanWish, seen Observed, ours map[string]bool) []workers.Step {
	var steps []workers.Step
	for _, d := range seen.Domains {
		if d.UUID != o.UUID || d.State == events.DomainDying {
			continue
		}
		if s, stamped := seen.stampOf(d); stamped && s.Boot == seen.Boot && ours[string(s.VM)] || !stamped && ours[d.UUID] {
			continue
		}
		steps = append(steps, destroy(d, "", "an orphan that shall go"))
	}
	return steps
}

// planner makes the plan for one VM.
type planner struct {
	w      Wish
	seen   Observed
	f      family
	seeds  []SeedDisk // of the VM
	steps  []workers.Step
	urgent bool
}

func (p *planner) do(steps ...workers.Step) { p.steps = append(p.steps, steps...) }

// plan: what must not be comes first, and alone; then what is wanted.
func (p *planner) plan() {
	if p.stopStale() || p.f.dying || len(p.f.foreign) > 0 {
		return
	}
	p.forgetAnswered()
	switch {
	case p.f.current == nil && p.f.adoptee != nil && (p.w.wantsDomain() || p.w.wantsEnd()):
		p.takeOver(*p.f.adoptee) // also when it shall end: then it is this VM's from here on
	case p.w.wantsDomain() && p.f.current == nil:
		p.create("no domain of this grant is there")
	case p.w.wantsDomain():
		p.keep(*p.f.current)
	case p.w.wantsEnd() && p.f.current != nil:
		p.end(*p.f.current)
	case p.w.wantsEnd():
		p.unseed("", "its domain is gone")
	}
}

// stopStale pauses what runs and should not, and only in a later plan destroys it, so that it is reported in between.
func (p *planner) stopStale() bool {
	for _, d := range p.f.stale {
		if d.State == events.DomainRunning {
			p.urgent = true
			p.do(onDomain(stepPause, d, "its grant is over: epoch "+p.w.Epoch.String()+" is the VM's"))
		}
	}
	for _, d := range p.f.twins {
		if d.State == events.DomainRunning { // I1; it stays paused until someone decides
			p.urgent = true
			p.do(onDomain(stepPause, d, "the VM that adopted it has another domain"))
		}
	}
	if p.urgent {
		return true
	}
	for _, d := range p.f.stale {
		p.do(destroy(d, events.EndedDestroyed, "its grant is over: epoch "+p.w.Epoch.String()+" is the VM's"))
	}
	for _, d := range p.f.half {
		p.do(onDomain(stepUnmake, d, "its destroy was cut off"))
	}
	for _, d := range p.f.unfinished {
		p.do(destroy(d, "", "a start that was cut off: it has no stamp and never ran"))
	}
	return len(p.steps) > 0
}

// forgetAnswered removes the records of ends that need not be told any more.
func (p *planner) forgetAnswered() {
	for _, s := range p.f.ended {
		over := s.Epoch.Compare(p.w.Epoch)
		if over == 0 && p.w.wantsDomain() || p.seen.Answered[workers.KeyOf(ended(p.w, s))] {
			forget := workers.Step{Kind: stepForget, Target: strconv.Itoa(s.DomID), Params: map[string]string{"uuid": s.UUID}, Why: "its domain is gone"}
			if p.f.empty() && !p.w.wantsDomain() { // nothing of the VM is here: what it printed was told with its end
				forget.Params["console"] = string(p.w.VM)
			}
			p.do(forget)
		}
	}
}

// keep makes the domain of the grant what it should be.
func (p *planner) keep(d Domain) {
	switch {
	case p.f.stamp.Restarts < p.w.Restarts:
		p.remake(d, "restart "+strconv.Itoa(p.w.Restarts)+" is wanted")
		return
	case d.State == events.DomainShutdown && d.ShutdownReason == "reboot":
		p.remake(d, "the guest rebooted")
		return
	case d.State == events.DomainShutdown || d.State == events.DomainCrashed:
		return // reported; what comes next is not decided here
	}
	if d.Weight != 0 && p.w.Weight > 0 && d.Weight != p.w.Weight {
		s := onDomain(stepWeight, d, "it is "+strconv.Itoa(d.Weight))
		s.Params["weight"] = strconv.Itoa(p.w.Weight)
		p.do(s)
	}
	p.limitDisks()
	if p.f.stamp.Resizes < p.w.Resizes {
		s := onDomain(stepResize, d, fmt.Sprintf("resize %d is wanted: it has %d MiB and %d vCPUs", p.w.Resizes, d.seenMiB(p.f.stamp), d.VCPUs))
		s.Params["memory"], s.Params["vcpus"], s.Params["resizes"] = strconv.Itoa(p.w.MemoryMiB), strconv.Itoa(p.w.VCPUs), strconv.Itoa(p.w.Resizes)
		p.do(s)
	}
	switch {
	case p.w.Want == desired.Running && d.State == events.DomainPaused:
		p.attached(strconv.Itoa(d.DomID), d.UUID, "")
		p.do(onDomain(stepUnpause, d, "it should run"))
	case p.w.Want == desired.Paused && d.State == events.DomainRunning:
		p.do(onDomain(stepPause, d, "it should be paused"))
	}
}

// remake fetches first, so that a file or a disk that cannot be had does not end a domain that runs.
func (p *planner) remake(d Domain, why string) {
	p.fetch()
	p.awaitDisks()
	p.awaitNICs()
	p.seed()
	p.do(destroy(d, "", why), workers.Step{
		Kind: stepForget, Target: strconv.Itoa(d.DomID), Params: map[string]string{"uuid": d.UUID}, Why: "it is made again",
	})
	p.make(why)
}

// end asks the guest to shut down, or destroys the domain.
func (p *planner) end(d Domain) {
	down := d.State == events.DomainShutdown || d.State == events.DomainCrashed
	how := events.EndedDestroyed
	if d.State == events.DomainShutdown {
		how = events.EndedShutdown
	}
	switch {
	case p.w.Want == desired.Absent:
		p.do(destroy(d, how, "it should not be there"))
	case down:
		p.do(destroy(d, how, "the guest has shut down: "+d.ShutdownReason))
	case d.State == events.DomainPaused:
		p.attached(strconv.Itoa(d.DomID), d.UUID, "")
		p.do(onDomain(stepUnpause, d, "a paused guest cannot shut down"))
	default:
		if wait := p.seen.Now.Sub(p.f.stamp.Asked); wait >= askAgain || wait < 0 {
			p.do(onDomain(stepAsk, d, "it should shut down"))
		}
	}
}

func (p *planner) create(why string) {
	p.fetch()
	p.awaitDisks()
	p.awaitNICs()
	p.seed()
	p.make(why)
}

func (p *planner) fetch() {
	for _, b := range []events.Blob{p.w.Kernel, p.w.Ramdisk} {
		if b.SHA256 != "" && !p.seen.Blobs[b.SHA256] {
			p.do(workers.Step{
				Kind: stepFetch, Target: b.SHA256, Params: map[string]string{"size": strconv.FormatInt(b.Size, 10)},
				Why: DomainName(p.w.VM, p.w.Name) + " boots from it",
			})
		}
	}
}

// make makes the domain: paused, stamped, verified, and only then started.
func (p *planner) make(why string) {
	w, name := p.w, DomainName(p.w.VM, p.w.Name)
	p.unseed(p.seedWanted(), "an earlier domain had it")
	p.do(workers.Step{Kind: stepCreate, Target: name, Params: p.config(), Why: why},
		p.stamp(stepStamp, name, string(w.VM), "for this grant"),
		p.stamp(stepVerify, name, string(w.VM), "before it runs its first instruction"))
	p.attached(name, string(w.VM), p.seedWanted())
	p.limitNew()
	if w.Want == desired.Running {
		p.do(workers.Step{Kind: stepStart, Target: name, Params: map[string]string{"uuid": string(w.VM)}, Why: "it should run"})
	}
}

// takeOver stamps a domain that was made by someone else.
func (p *planner) takeOver(d Domain) {
	id := strconv.Itoa(d.DomID)
	p.do(p.stamp(stepTakeOver, id, d.UUID, "it was given to this VM"), p.stamp(stepVerify, id, d.UUID, "before it counts as this VM's"))
}

func (p *planner) config() map[string]string {
	w := p.w
	c := map[string]string{
		"vm": string(w.VM), "vmname": w.Name, "type": w.Type, "vcpus": strconv.Itoa(w.VCPUs), "memory": strconv.Itoa(w.MemoryMiB),
		"weight": strconv.Itoa(w.Weight), "kernel": w.Kernel.SHA256, "ramdisk": w.Ramdisk.SHA256, "cmdline": w.Cmdline,
		"epoch": w.Epoch.String(),
	}
	if w.MaxVCPUs > 0 {
		c["maxvcpus"] = strconv.Itoa(w.MaxVCPUs)
	}
	if len(w.Disks) > 0 {
		c["disks"] = printDisks(w.Disks)
	}
	if len(w.NICs) > 0 {
		c["nics"] = printNICs(w.NICs)
	}
	if w.Boot != "" {
		c["boot"] = w.Boot
	}
	if w.Seed != nil {
		c["seed"] = printSeed(*w.Seed)
	}
	return c
}

func (p *planner) stamp(kind, target, uuid, why string) workers.Step {
	return workers.Step{Kind: kind, Target: target, Why: why, Params: map[string]string{
		"uuid": uuid, "vm": string(p.w.VM), "epoch": p.w.Epoch.String(), "boot": p.seen.Boot, "restarts": strconv.Itoa(p.w.Restarts),
		"resizes": strconv.Itoa(p.w.Resizes), "type": p.w.Type,
	}}
}

func onDomain(kind string, d Domain, why string) workers.Step {
	return workers.Step{Kind: kind, Target: strconv.Itoa(d.DomID), Params: map[string]string{"uuid": d.UUID}, Why: why}
}

// destroy ends a domain. how is recorded in its stamp first, if it ends for good.
func destroy(d Domain, how, why string) workers.Step {
	s := onDomain(stepDestroy, d, why)
	if how != "" {
		s.Params["how"] = how
	}
	return s
}
