package proxy

import (
	"context"
	"fmt"
	"strconv"

	"cloudengine/events"
	"cloudengine/workers"
	"cloudengine/workers/md"
)

// sync makes md copy and compare as the document says. What md is at is kept by the kernel alone, and ends with the array: a new owner says
// it again. Freezing comes last of a plan, for a leg is joined whether anything may be copied to it now or not.
//
// changing says that the plan loses or joins a member first: no check begins then.
func (p *planner) sync(a MD, changing bool) {
	w := p.v.wish.Resync
	if w.LimitKiB > 0 && (a.Sync.MaxKiB != w.LimitKiB || a.Sync.MinKiB != md.MinFor(w.LimitKiB)) {
		p.do(stepSpeed, "the document says so", "md", a.Name, "kib", strconv.Itoa(w.LimitKiB))
	}
	switch {
	case w.Hold != "":
		if a.SyncAction != md.ActionFrozen {
			p.do(stepFreeze, "the document says "+w.Hold, "md", a.Name)
		}
	case a.SyncAction == md.ActionFrozen:
		p.do(stepThaw, "nothing holds it, or a join was cut off", "md", a.Name)
	case a.SyncAction == md.ActionCheck && (w.Check == "" || p.seen.Checks[p.v.id] != w.Check):
		p.do(stepThaw, "no document asks for this check", "md", a.Name) // or a predecessor of this process began it, nobody knows when
	case w.Check != "" && a.SyncAction == md.ActionIdle && a.Needs() == "" && a.Degraded == 0 && !changing && !p.v.checked(p.seen):
		p.do(stepCheck, "check "+string(w.Check)+" is to be done", "md", a.Name, "check", string(w.Check))
	}
}

// checked says that the check of the document is done: this process began it, and md forgot where it had to stop, which it does at the end
// only.
func (v view) checked(seen Observed) bool {
	a, w := v.arrays[0], v.wish.Resync
	return w.Check != "" && seen.Checks[v.id] == w.Check && a.Sync.Until == 0 && a.SyncAction == md.ActionIdle
}

// describeSync tells what is copied and compared.
func (v view) describeSync(r *events.ArrayReport, seen Observed) {
	a := v.arrays[0]
	r.Needs = a.Needs()
	if a.SyncAction != md.ActionIdle {
		r.Sync, r.SyncDone = a.SyncAction, a.SyncDone
	}
	if a.SyncAction != md.ActionIdle && a.SyncAction != md.ActionFrozen {
		r.SyncKiB, r.SyncETA = a.Sync.RateKiB, a.ETA()
	}
	if v.checked(seen) {
		r.Checked, r.Sectors, r.Mismatches = v.wish.Resync.Check, a.Sectors, a.Sync.Differ
	}
}

// sync does one of these steps.
func (w *Worker) sync(ctx context.Context, id events.ArrayID, s workers.Step) error {
	name := s.Params["md"]
	switch s.Kind {
	case stepThaw:
		return w.Arrays.Thaw(ctx, name)
	case stepFreeze:
		return w.Arrays.Freeze(ctx, name)
	case stepSpeed:
		n, err := numbers(s, "kib")
		if err != nil {
			return err
		}
		return w.Arrays.SetSpeed(ctx, name, int(n[0]))
	case stepCheck:
		w.begun(id, "") // whatever was done before: from here on it is this one, or none
		if err := w.Arrays.Check(ctx, name); err != nil {
			return err
		}
		w.begun(id, events.IntentID(s.Params["check"]))
		return nil
	}
	return workers.Permanent(fmt.Errorf("step %q: %w", s.Kind, errUnknownStep))
}

func (w *Worker) begun(id events.ArrayID, check events.IntentID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.checks[id] = check; check == "" {
		delete(w.checks, id)
	}
}
