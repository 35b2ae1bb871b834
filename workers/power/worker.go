package power

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"cloudengine/commands"
	"cloudengine/events"
)

// Subject filters FEED on what the worker handles.
const Subject = "feed.machine.*.machine_power_wanted_v1"

// Machine is what the log knows of a machine whose power we may reach.
type Machine struct {
	ID    events.MachineID
	Name  string
	BMC   *events.BMC // nil: none
	Boot  string      // its present boot; empty: it never enrolled
	Power string      // what was last recorded; empty: nothing
	GUID  string      // of the controller that was first found healthy; empty: none yet
}

// State is what the worker asks of the folded log. It is asked from many goroutines, and answers from the newest decision that this
// server knows; so the worker runs on the active server.
type State interface {
	// OperationOpen says whether an operation is still running.
	OperationOpen(id events.IntentID) bool
	// Machine finds a machine.
	Machine(id events.MachineID) (Machine, bool)
	// Machines lists all of them.
	Machines() []Machine
}

// Submit puts a command before the decider and gives its answer. An error, or the code busy or unavailable, means: again, same id.
type Submit func(ctx context.Context, c commands.Command) (events.Answer, error)

// LastObserved gives what was last recorded of a machine's power; false if nothing is known. It only saves a second power cycle after
// a crash.
type LastObserved func(ctx context.Context, m events.MachineID) (events.MachinePowerObserved, bool)

// Config is what a worker needs. The first four are required.
type Config struct {
	State   State
	Connect Connect
	Secret  func(name string) ([]byte, error) // the value; never logged
	Submit  Submit

	LastObserved LastObserved                       // optional
	LastHeard    func(m events.MachineID) time.Time // optional: when the machine last gave a sign of life; zero: not known
	Log          *slog.Logger

	MaxAge   time.Duration // an older message is not acted upon; default 5 min, the time-out of a power operation
	TryFor   time.Duration // how long an action is tried before it is reported as failed; default 2 min
	ReadGap  time.Duration // between two readings that prove off together; default 6 s: longer than between two signs of life of a machine
	PollGap  time.Duration // between an act and the next look; default 500 ms
	Visit    time.Duration // one session with a BMC at most; default 15 s
	Interval time.Duration // between health checks; default 1 min
	Parallel int           // health checks at once; default 16
}

// Worker carries out power actions (Handle) and watches the BMCs (Run).
type Worker struct {
	cfg   Config
	mu    sync.Mutex
	locks map[events.MachineID]chan struct{}
	check checks
}

// New makes a worker.
func New(cfg Config) (*Worker, error) {
	if cfg.State == nil || cfg.Connect == nil || cfg.Secret == nil || cfg.Submit == nil {
		return nil, errors.New("make power worker: State, Connect, Secret and Submit are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.MaxAge = cmp.Or(cfg.MaxAge, 5*time.Minute)
	cfg.TryFor = cmp.Or(cfg.TryFor, 2*time.Minute)
	cfg.ReadGap = cmp.Or(cfg.ReadGap, 6*time.Second)
	cfg.PollGap = cmp.Or(cfg.PollGap, 500*time.Millisecond)
	cfg.Visit = cmp.Or(cfg.Visit, 15*time.Second)
	cfg.Interval = cmp.Or(cfg.Interval, time.Minute)
	cfg.Parallel = cmp.Or(cfg.Parallel, 16)
	return &Worker{cfg: cfg, locks: map[events.MachineID]chan struct{}{}, check: newChecks()}, nil
}

// Handle carries out one power_wanted, reports the result and returns when it was answered. It returns nil without acting when the log
// does not want it any more. An error means that ctx ended: the message must come again.
func (w *Worker) Handle(ctx context.Context, m events.FeedMessage) error {
	want, ok := m.Event.Data.(events.MachinePowerWanted)
	if !ok || m.Event.Aggregate.Kind != events.KindMachine {
		return fmt.Errorf("handle decision %d: %s is not for the power worker", m.Number, m.Event.Type)
	}
	decided, err := time.Parse(time.RFC3339Nano, m.Time)
	if err != nil {
		return fmt.Errorf("handle decision %d: %w", m.Number, err)
	}
	a := &action{
		w: w, want: want, id: events.MachineID(m.Event.Aggregate.ID), until: decided.Add(w.cfg.MaxAge),
		log: w.cfg.Log.With("machine", m.Event.Aggregate.ID, "action", want.Action, "operation", want.Operation, "number", m.Number),
	}
	if a.wanted() != nil {
		return nil // the common case of a replay: not even a turn is waited for
	}
	unlock, err := w.lock(ctx, a.id)
	if err != nil {
		return err
	}
	defer unlock()
	return a.run(ctx)
}

// lock waits for the turn at a machine. Actions and checks of one machine never overlap.
func (w *Worker) lock(ctx context.Context, id events.MachineID) (unlock func(), err error) {
	turn := w.turn(id)
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *Worker) turn(id events.MachineID) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	turn, ok := w.locks[id]
	if !ok {
		turn = make(chan struct{}, 1)
		w.locks[id] = turn
	}
	return turn
}

// visit opens a session with a machine's BMC and closes it afterwards.
func (w *Worker) visit(ctx context.Context, m Machine, f func(context.Context, BMC) error) error {
	password, err := w.cfg.Secret(m.BMC.Secret)
	if err != nil {
		return fmt.Errorf("get secret %q: %w", m.BMC.Secret, err)
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Visit)
	defer cancel()
	b, err := w.cfg.Connect(ctx, Target{Address: m.BMC.Address, User: m.BMC.User, Password: password})
	if err != nil {
		return err
	}
	err = f(ctx, b)
	if cerr := b.Close(); cerr != nil {
		w.cfg.Log.Debug("session left to its time-out", "machine", m.ID, "error", cerr)
	}
	return err
}

// transit is how long a sign of life may be under way: one that comes so soon after the power was read as off proves nothing.
const transit = time.Second

// contradicted says that a machine gave a sign of life after its power was first read as off: the controller is not its own, or lies.
func (w *Worker) contradicted(m events.MachineID, firstOff time.Time) error {
	if w.cfg.LastHeard == nil {
		return nil
	}
	if heard := w.cfg.LastHeard(m); heard.After(firstOff.Add(transit)) {
		return fmt.Errorf("the power was read as off, and the machine was heard %s later: this controller is not its own, or does not tell the truth",
			heard.Sub(firstOff).Round(100*time.Millisecond))
	}
	return nil
}

// report submits a command until it is answered. The same command keeps its id, so that it is decided once.
func (w *Worker) report(ctx context.Context, verb string, args any, correlation string) error {
	raw, err := encode(args)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make id for a report: %w", err)
	}
	c := commands.Command{
		Intent: events.IntentID(id.String()), Actor: commands.ActorPower, Kind: events.KindMachine, Verb: verb, Args: raw, Correlation: correlation,
	}
	const first, last = 100 * time.Millisecond, 5 * time.Second
	for pause := first; ; pause = min(2*pause, last) {
		answer, err := w.cfg.Submit(ctx, c)
		switch {
		case err == nil && !again(answer.Outcome.Code):
			if answer.Outcome.Status == events.Refused {
				w.cfg.Log.Warn("report refused", "verb", verb, "args", string(raw), "code", answer.Outcome.Code, "message", answer.Outcome.Message)
			}
			return nil
		case err != nil:
			w.cfg.Log.Debug("report again", "verb", verb, "after", pause, "error", err)
		}
		if !rest(ctx, pause) {
			return fmt.Errorf("report %s: %w", verb, ctx.Err())
		}
	}
}

func again(code string) bool { return code == events.CodeBusy || code == events.CodeUnavailable }

func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
