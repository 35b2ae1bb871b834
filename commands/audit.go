package commands

import (
	"fmt"

	"cloudengine/events"
)

// Audit folds a log apart from State, and says where it breaks an invariant of the platform: I1 (one live run grant for each VM, each end
// with its proof), I4 (capacity and names), I5 (silence is never proof) and I6 (numbers without gaps, no id decided twice, every
// operation ends once). It is the oracle of the tests and of "verify". Not safe for concurrent use.
type Audit struct {
	last     uint64
	decided  map[seenKey]uint64
	live     map[events.VMID]events.VMRunGranted
	room     map[events.MachineID]int
	used     map[events.MachineID]int
	ghosts   map[string]ghostUse
	sizes    sizes
	names    map[string]string
	vmScope  map[string]string
	ops      map[string]bool
	epochs   map[events.VMID]events.Epoch
	storage  auditStorage
	networks auditNetworks
	lost     bool // the log was restored or reopened, and not settled
	broken   []string
}

type ghostUse struct {
	host  events.MachineID
	mib   int
	model int // MiB of the control domain's memory
}

type seenKey struct {
	actor string
	id    events.IntentID
}

// NewAudit begins before the first decision.
func NewAudit() *Audit {
	return &Audit{
		decided: map[seenKey]uint64{}, live: map[events.VMID]events.VMRunGranted{},
		room: map[events.MachineID]int{}, used: map[events.MachineID]int{}, ghosts: map[string]ghostUse{},
		sizes: newSizes(), names: map[string]string{}, vmScope: map[string]string{}, ops: map[string]bool{}, epochs: map[events.VMID]events.Epoch{},
		storage: newAuditStorage(), networks: newAuditNetworks(),
	}
}

// Broken lists what was found, in the order of the log.
func (a *Audit) Broken() []string { return a.broken }

// Live counts the run grants that are live.
func (a *Audit) Live() int { return len(a.live) }

func (a *Audit) fail(r events.Recorded, invariant, format string, args ...any) {
	a.broken = append(a.broken, fmt.Sprintf("decision %d: %s: %s", r.Number, invariant, fmt.Sprintf(format, args...)))
}

// Add folds the next decision.
func (a *Audit) Add(r events.Recorded) {
	if r.Number != a.last+1 {
		a.fail(r, "I6", "follows number %d", a.last)
	}
	a.last = r.Number
	k := seenKey{r.Actor, r.Intent}
	if n, twice := a.decided[k]; twice {
		a.fail(r, "I6", "intent %s of %s was decided before, as %d", r.Intent, r.Actor, n)
	}
	a.decided[k] = r.Number
	if r.Outcome.Status != events.Accepted && len(r.Events) > 0 {
		a.fail(r, "I6", "%s and yet there are events", r.Outcome.Status)
	}
	for _, e := range r.Events {
		a.event(r, e)
	}
}

func (a *Audit) event(r events.Recorded, e events.Event) {
	a.storageEvent(r, e)
	a.networkEvent(r, e)
	vm := events.VMID(e.Aggregate.ID)
	switch d := e.Data.(type) {
	case events.LogOpened:
		a.lost = d.Cause != events.CauseCreated
	case events.LogSettled:
		a.lost = false
	case events.HostRegistered:
		a.room[events.MachineID(e.Aggregate.ID)] = d.Capacity.AllocatableMiB
		a.sizes.room[events.MachineID(e.Aggregate.ID)] = d.Capacity.DeviceModels
	case events.VMGrantResized:
		a.resized(r, vm, d)
	case events.VMDomainObserved:
		a.sizes.seen[vm] = d
	case events.VMRunGranted:
		a.granted(r, vm, d)
	case events.VMGrantEnded:
		a.ended(r, vm, d)
	case events.VMStaleDomainEnded:
		key := ghostKey(vm, d.Epoch)
		a.used[a.ghosts[key].host] -= a.ghosts[key].mib
		a.sizes.used[a.ghosts[key].host] -= a.ghosts[key].model
		delete(a.ghosts, key)
	case events.AccountCreated:
		a.take(r, scope(events.KindAccount, "", d.Name), e.Aggregate.ID)
	case events.MachineAdded:
		a.take(r, scope(events.KindMachine, "", d.Name), e.Aggregate.ID)
	case events.VMCreated:
		a.take(r, scope(events.KindVM, d.Account, d.Name), e.Aggregate.ID)
	case events.AccountDeleted, events.MachineRemoved, events.VMDeleted:
		if _, runs := a.live[vm]; runs && e.Aggregate.Kind == events.KindVM {
			a.fail(r, "I1", "VM %s was deleted with a live grant", vm)
		}
		delete(a.names, a.vmScope[e.Aggregate.ID])
	case events.OperationStarted:
		a.ops[e.Aggregate.ID] = true
	case events.OperationDone, events.OperationFailed, events.OperationTimedOut:
		if !a.ops[e.Aggregate.ID] {
			a.fail(r, "I6", "operation %s ended and was not running", e.Aggregate.ID)
		}
		delete(a.ops, e.Aggregate.ID)
	}
}

func ghostKey(vm events.VMID, e events.Epoch) string { return string(vm) + "/" + e.String() }

func (a *Audit) take(r events.Recorded, key, id string) {
	if other, taken := a.names[key]; taken {
		a.fail(r, "I4", "%s takes a name that %s has", id, other)
	}
	a.names[key], a.vmScope[id] = id, key
}

func (a *Audit) granted(r events.Recorded, vm events.VMID, d events.VMRunGranted) {
	if g, runs := a.live[vm]; runs {
		a.fail(r, "I1", "VM %s is granted to %s and was already granted to %s", vm, d.Host, g.Host)
	}
	if last, had := a.epochs[vm]; had && d.Epoch.Compare(last) <= 0 {
		a.fail(r, "I1", "VM %s is granted under epoch %s after %s", vm, d.Epoch, last)
	}
	a.epochs[vm] = d.Epoch
	if a.lost && (r.Verb != "adopt_orphan" || d.Epoch.Term >= r.Term) {
		a.fail(r, "I5", "VM %s is granted before the log was settled", vm)
	}
	mib := d.MemoryMiB + d.OverheadMiB
	a.live[vm] = d
	a.used[d.Host] += mib
	if a.used[d.Host] > a.room[d.Host] {
		a.fail(r, "I4", "host %s has %d MiB and gave %d", d.Host, a.room[d.Host], a.used[d.Host])
	}
	a.grantedModel(r, vm, d)
}

func (a *Audit) ended(r events.Recorded, vm events.VMID, d events.VMGrantEnded) {
	g, runs := a.live[vm]
	if !runs || g.Epoch != d.Epoch || g.Host != d.Host || g.Boot != d.Boot {
		a.fail(r, "I1", "VM %s: a grant ended that was not live", vm)
		return
	}
	delete(a.live, vm)
	mib := g.MemoryMiB + g.OverheadMiB
	switch d.Proof {
	case events.ProofCleanEnd:
		a.require(r, r.Actor == MachineActor(g.Host) && r.Verb == "report", "a clean end must be reported by its own host")
	case events.ProofNewBoot:
		a.require(r, has(r, func(e events.MachineEnrolled) bool { return e.Boot != g.Boot }), "a new boot must be enrolled in the same decision")
	case events.ProofPowerOff:
		a.require(r, has(r, func(e events.MachinePowerObserved) bool { return e.Proof && e.Boot == g.Boot }), "power must have been proven off")
	case events.ProofOverride:
		a.require(r, r.Reason != "" && Command{Override: r.Override}.overrides(GuardEndProof), "an override must be named and have a reason")
		a.ghosts[ghostKey(vm, g.Epoch)] = ghostUse{g.Host, mib, g.DeviceModel}
		return
	default:
		a.fail(r, "I5", "VM %s: %q is no proof", vm, d.Proof)
	}
	a.used[g.Host] -= mib
	a.sizes.used[g.Host] -= g.DeviceModel
}

func (a *Audit) require(r events.Recorded, ok bool, what string) {
	if !ok {
		a.fail(r, "I5", "%s", what)
	}
}

func has[P events.Payload](r events.Recorded, fits func(P) bool) bool {
	for _, e := range r.Events {
		if p, ok := e.Data.(P); ok && fits(p) {
			return true
		}
	}
	return false
}
