package power

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cloudengine/commands"
	"cloudengine/events"
)

// A power supply that fails is seen here: a machine that the log takes for on is read as off. Read twice, that proves the end of its
// boot. But when many are read as off at once, it is more likely that the readings are wrong than that so many failed: then no proof is
// given, and a human is asked.
const (
	brakeFew    = 2                // never braked
	brakeShare  = 10               // per cent of the machines with a BMC
	brakeWindow = 10 * time.Minute // over which they are counted
)

// checks is what the health checks remember. It starts empty with the process; then everything is reported once.
type checks struct {
	mu   sync.Mutex
	told map[events.MachineID]wellness
	lost map[events.MachineID]time.Time
	done map[events.MachineID]checked
}

// wellness is what was last reported of a BMC. Whether another controller than before is right is for the decider to say.
type wellness struct {
	healthy bool
	guid    string
}

// checked says when a machine was checked, and which boot it had then.
type checked struct {
	at   time.Time
	boot string
}

func newChecks() checks {
	return checks{told: map[events.MachineID]wellness{}, lost: map[events.MachineID]time.Time{}, done: map[events.MachineID]checked{}}
}

// lookOut is how often Run looks for machines that are new, or have enrolled with a new boot.
const lookOut = 2 * time.Second

// Run checks each BMC when its machine is added, when it enrols, and every Interval, until ctx ends, and gives nil then.
func (w *Worker) Run(ctx context.Context) error {
	for {
		all := w.reachable()
		w.checkThese(ctx, w.check.due(all, w.cfg.Interval, time.Now()), len(all))
		if !rest(ctx, lookOut) {
			return nil
		}
	}
}

// CheckAll checks each BMC once, now.
func (w *Worker) CheckAll(ctx context.Context) {
	all := w.reachable()
	w.checkThese(ctx, all, len(all))
}

// reachable lists the machines with a BMC.
func (w *Worker) reachable() []Machine {
	return slices.DeleteFunc(w.cfg.State.Machines(), func(m Machine) bool { return m.BMC == nil })
}

// due picks the machines that are to be checked.
func (c *checks) due(all []Machine, every time.Duration, now time.Time) []Machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Machine
	for _, m := range all {
		if last, known := c.done[m.ID]; !known || last.boot != m.Boot || now.Sub(last.at) >= every {
			out = append(out, m)
		}
	}
	return out
}

// finding is the result of one check.
type finding struct {
	machine Machine
	healthy bool
	detail  string
	guid    string // of the controller that was read
	state   string
	at      time.Time // of the reading
}

// checkThese checks machines once and reports what is new. Those with an action under way are left out. total is the number of all
// machines with a BMC.
func (w *Worker) checkThese(ctx context.Context, these []Machine, total int) {
	var (
		all  errgroup.Group
		mu   sync.Mutex
		gone []finding
	)
	all.SetLimit(w.cfg.Parallel)
	for _, m := range these {
		all.Go(func() error {
			f, ok := w.checkOne(ctx, m)
			if ok && f.lost() {
				mu.Lock()
				gone = append(gone, f)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = all.Wait() // the functions give no errors
	w.confirmLost(ctx, gone, total)
}

// lost says whether a machine is off that has booted, and that the log does not take for off.
func (f finding) lost() bool {
	return f.state == events.PowerIsOff && f.machine.Power != events.PowerIsOff && f.machine.Boot != ""
}

// checkOne looks at one BMC and reports its health, and its power unless the machine is lost. false: there was no turn, or ctx ended.
func (w *Worker) checkOne(ctx context.Context, m Machine) (finding, bool) {
	turn := w.turn(m.ID)
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	default:
		return finding{}, false
	}
	m, known := w.cfg.State.Machine(m.ID) // as it is now that no action is under way
	if !known || m.BMC == nil {
		return finding{}, false
	}
	f := w.look(ctx, m)
	if ctx.Err() != nil {
		return finding{}, false
	}
	w.check.mu.Lock()
	w.check.done[m.ID] = checked{time.Now(), m.Boot}
	w.check.mu.Unlock()
	if err := w.reportHealth(ctx, f); err != nil {
		w.cfg.Log.Warn("health not reported", "machine", m.ID, "error", err)
		return finding{}, false
	}
	if f.state != events.PowerIsUnknown && f.state != m.Power && !f.lost() {
		if err := w.reportState(ctx, f, 1); err != nil {
			w.cfg.Log.Warn("power state not reported", "machine", m.ID, "error", err)
		}
	}
	return f, true
}

// look opens a session, which proves address and password, and reads identity and power.
func (w *Worker) look(ctx context.Context, m Machine) finding {
	f := finding{machine: m, state: events.PowerIsUnknown}
	err := w.visit(ctx, m, func(ctx context.Context, b BMC) error {
		id, err := b.Identify(ctx)
		if err != nil {
			return err
		}
		state, err := b.Status(ctx)
		if err != nil {
			return err
		}
		f.detail, f.guid, f.state, f.healthy, f.at = id.String(), id.GUID, state, true, time.Now()
		return nil
	})
	if err != nil {
		f.detail = clip(err)
	}
	return f
}

func (w *Worker) reportHealth(ctx context.Context, f finding) error {
	w.check.mu.Lock()
	was, known := w.check.told[f.machine.ID]
	w.check.mu.Unlock()
	now := wellness{f.healthy, f.guid}
	if known && was == now {
		return nil
	}
	w.cfg.Log.Info("BMC checked", "machine", f.machine.ID, "name", f.machine.Name, "healthy", f.healthy, "detail", f.detail)
	if err := w.report(ctx, "report_bmc", commands.ReportBMC{Machine: f.machine.ID, Healthy: f.healthy, Detail: f.detail, GUID: f.guid}, ""); err != nil {
		return err
	}
	w.check.mu.Lock()
	defer w.check.mu.Unlock()
	w.check.told[f.machine.ID] = now
	return nil
}

// reportState tells of a power state that nobody asked for. The boot is the one that was known before the reading.
func (w *Worker) reportState(ctx context.Context, f finding, reads int) error {
	return w.report(ctx, "report_power", commands.ReportPower{Machine: f.machine.ID, Boot: f.machine.Boot, State: f.state, Reads: reads, GUID: f.guid}, "")
}

// confirmLost reads lost machines a second time and reports them, with proof unless there are too many.
func (w *Worker) confirmLost(ctx context.Context, gone []finding, total int) {
	if len(gone) == 0 {
		return
	}
	brake := w.check.brake(gone, total, time.Now())
	if brake {
		w.cfg.Log.Error("many machines are read as off at once: no proof is given; look at them, and use machine power off where it is true",
			"now", len(gone), "machines", total)
	} else if !rest(ctx, w.cfg.ReadGap) {
		return
	}
	var all errgroup.Group
	all.SetLimit(w.cfg.Parallel)
	for _, f := range gone {
		all.Go(func() error {
			if err := w.confirm(ctx, f, brake); err != nil {
				w.cfg.Log.Warn("power state not reported", "machine", f.machine.ID, "error", err)
			}
			return nil
		})
	}
	_ = all.Wait() // the functions give no errors
}

func (w *Worker) confirm(ctx context.Context, f finding, brake bool) error {
	if brake {
		return w.reportState(ctx, f, 1)
	}
	unlock, err := w.lock(ctx, f.machine.ID)
	if err != nil {
		return err
	}
	defer unlock()
	second := w.look(ctx, f.machine)
	if second.state != events.PowerIsOff || second.guid != f.guid {
		return ctx.Err() // the next check tells what it is
	}
	if err := w.contradicted(f.machine.ID, f.at); err != nil {
		w.cfg.Log.Error("power state not believed", "machine", f.machine.ID, "error", err)
		return nil
	}
	return w.reportState(ctx, f, readsForProof)
}

// brake says whether too many machines were lost within the window, these included.
func (c *checks) brake(gone []finding, total int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range c.lost {
		if now.Sub(at) > brakeWindow {
			delete(c.lost, id)
		}
	}
	for _, f := range gone {
		c.lost[f.machine.ID] = now
	}
	return len(c.lost) > max(brakeFew, total*brakeShare/100)
}
