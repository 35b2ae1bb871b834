package power

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"cloudengine/commands"
	"cloudengine/events"
)

// action is one power_wanted that is being carried out.
type action struct {
	w     *Worker
	want  events.MachinePowerWanted
	id    events.MachineID
	until time.Time // by the servers' clocks: then it is not acted upon any more
	log   *slog.Logger

	seen    Observed
	guid    string    // of the controller that was read; readings of another one do not count together
	counted time.Time // when off was last counted
	offFrom time.Time // when it was first read as off, in a row
}

var (
	// errNotWanted says that the log does not want the action any more, or that it is too late for it.
	errNotWanted = errors.New("not wanted any more")
	// errOtherBoot says that the machine has booted since the decision: it is not what was meant to be switched off.
	errOtherBoot = errors.New("the machine has booted again since this was asked for: look, and ask again")
)

// wanted says whether the action may still be carried out.
func (a *action) wanted() error {
	if !time.Now().Before(a.until) || !a.w.cfg.State.OperationOpen(a.want.Operation) {
		return errNotWanted
	}
	return nil
}

// mayCut says whether this is still the boot whose power is to be cut.
func (a *action) mayCut() error {
	if m, known := a.w.cfg.State.Machine(a.id); !known || m.Boot != a.want.Boot {
		return errOtherBoot
	}
	return nil
}

// run observes, plans and acts until there is nothing left to do, then reports. It returns an error only when ctx ends first.
func (a *action) run(ctx context.Context) error {
	a.recall(ctx)
	giveUp := time.Now().Add(a.w.cfg.TryFor)
	var last error
	for a.wanted() == nil {
		m, known := a.w.cfg.State.Machine(a.id)
		if !known {
			return nil
		}
		if m.BMC == nil {
			return a.fail(ctx, errors.New("the machine has no BMC"))
		}
		if m.Boot != a.want.Boot && a.want.Action == events.PowerCycle {
			a.seen.WasOff = true // it has booted anew: what was to end has ended
		}
		steps, err := a.pass(ctx, m)
		switch {
		case errors.Is(err, errNotWanted):
			return nil
		case errors.Is(err, errOtherBoot):
			return a.fail(ctx, err)
		case err == nil && len(steps) == 0:
			return a.done(ctx)
		case err != nil:
			a.log.Warn("power action is tried again", "error", err)
			a.seen.State, a.seen.OffReads, last = events.PowerIsUnknown, 0, err
		default:
			a.log.Info("power action goes on", "steps", text(steps), "state", a.seen.State)
			last = fmt.Errorf("the power is still %s", a.seen.State)
		}
		if ctx.Err() == nil && time.Now().After(giveUp) {
			return a.fail(ctx, last)
		}
		if !rest(ctx, a.pause(steps)) {
			return ctx.Err()
		}
	}
	a.log.Info("power action is not wanted any more")
	return nil
}

// pause is short after an act, and long enough between two readings that prove off together.
func (a *action) pause(steps []Step) time.Duration {
	if len(steps) == 1 && steps[0].Kind == StepRead {
		return max(a.w.cfg.ReadGap-time.Since(a.counted), a.w.cfg.PollGap)
	}
	return a.w.cfg.PollGap
}

// pass is one session: look, plan, act. It gives the steps that were planned.
func (a *action) pass(ctx context.Context, m Machine) ([]Step, error) {
	var steps []Step
	err := a.w.visit(ctx, m, func(ctx context.Context, b BMC) error {
		id, err := b.Identify(ctx)
		if err != nil {
			return err
		}
		state, err := b.Status(ctx)
		if err != nil {
			return err
		}
		if m.GUID != "" && id.GUID != m.GUID { // it may be another machine's: nothing is switched
			return fmt.Errorf("another controller answers at %s: GUID %s, where it was %s; if it was replaced, remove the machine and add it again", m.BMC.Address, id.GUID, m.GUID)
		}
		if id.GUID != a.guid {
			a.guid, a.seen.OffReads = id.GUID, 0
		}
		a.saw(state)
		steps = Plan(a.want.Action, a.seen)
		return a.act(ctx, b, steps)
	})
	if err != nil || len(steps) == 0 || steps[0].Kind != StepReportOff {
		return steps, err
	}
	if err := a.report(ctx, nil); err != nil {
		return steps, err
	}
	a.seen.WasOff = true
	return steps, nil
}

// saw takes in one reading. Readings that are too close together count once.
func (a *action) saw(state string) {
	a.seen.State = state
	switch {
	case state != events.PowerIsOff:
		a.seen.OffReads = 0
	case a.seen.OffReads == 0 || time.Since(a.counted) >= a.w.cfg.ReadGap:
		a.seen.OffReads++
		a.counted = time.Now()
		if a.seen.OffReads == 1 {
			a.offFrom = a.counted
		}
	}
}

// act carries out the steps that need the session. Right before the power is touched, the log is asked once more.
func (a *action) act(ctx context.Context, b BMC, steps []Step) error {
	for _, s := range steps {
		if err := a.wanted(); err != nil {
			return err
		}
		switch s.Kind {
		case StepBootPXE:
			if err := b.SetBootPXE(ctx); err != nil { // some BMCs cannot; such a machine's own order must do
				a.log.Warn("boot order not set", "error", err)
			}
		case StepPowerOn:
			if err := b.On(ctx); err != nil {
				return err
			}
		case StepPowerOff:
			if err := a.mayCut(); err != nil {
				return err
			}
			if err := b.Off(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// recall looks whether an earlier delivery of this cycle got as far as the proof.
func (a *action) recall(ctx context.Context) {
	a.seen.State = events.PowerIsUnknown
	if a.want.Action != events.PowerCycle || a.w.cfg.LastObserved == nil {
		return
	}
	o, known := a.w.cfg.LastObserved(ctx, a.id)
	a.seen.WasOff = known && o.Operation == a.want.Operation && o.State == events.PowerIsOff && o.Reads >= readsForProof
}

func (a *action) done(ctx context.Context) error {
	a.log.Info("power action is done", "state", a.seen.State)
	return a.report(ctx, nil)
}

func (a *action) fail(ctx context.Context, why error) error {
	a.log.Warn("power action failed", "error", why)
	return a.report(ctx, why)
}

// report tells what was read, for the operation, until it is answered.
func (a *action) report(ctx context.Context, why error) error {
	r := commands.ReportPower{Machine: a.id, Operation: a.want.Operation, Boot: a.want.Boot, State: a.seen.State, Reads: 1, GUID: a.guid}
	if a.seen.State == events.PowerIsOff {
		r.Reads = max(a.seen.OffReads, 1)
		if err := a.w.contradicted(a.id, a.offFrom); err != nil && why == nil {
			r.Reads, why = 1, err
		}
	}
	if a.seen.State == events.PowerIsUnknown {
		r.Reads = 0
	}
	if why != nil {
		r.Error = clip(why)
	}
	return a.w.report(ctx, "report_power", r, string(a.want.Operation))
}

func encode(args any) (json.RawMessage, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	return raw, nil
}

// clip makes one short line of an error, for the log and its readers.
func clip(err error) string {
	const most = 300 // bytes
	s := strings.Join(strings.Fields(strings.ToValidUTF8(err.Error(), "?")), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
