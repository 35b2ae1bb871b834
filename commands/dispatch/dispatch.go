// Package dispatch is the ordered loop: the one writer of the log. It takes commands, decides them one after the other on the fold of
// the log, appends them in blocks, and answers when they are stored. Reactions and deadlines go through the same loop.
//
// It promises that an answer that names a number was stored under it, that a command with a known id gets its first outcome, that
// what is appended was decided against exactly the log before it, and that it stops deciding, and says why, when the log is not
// what it should be. Only the dispatcher beside the leader of the log is active; the others fold along. It holds no rules, makes
// no effects, and has no subscriptions: commands/api calls Submit.
package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cloudengine/commands"
	"cloudengine/events"
)

// Log is what the loop needs of the log. The journal is one.
type Log interface {
	// Append stores payload as the block after the one with sequence after. events.ErrConflict: another block is there.
	Append(ctx context.Context, after uint64, payload []byte) (uint64, error)
	// Load gives the blocks after from to f, in order and verified, up to the present end as the leader of the log knows it.
	Load(ctx context.Context, from events.Position, f func(events.Position, *events.Block) error) (events.Position, error)
}

// Core is the pure fold that decides. *commands.State is one. The loop alone changes it.
type Core interface {
	Decide(c commands.Command, now time.Time) events.Decision
	Evolve(r events.Recorded)
	React(r events.Recorded) []commands.Command
	Resume() []commands.Command
	Due(now time.Time) []commands.Command
	NextDeadline() (time.Time, bool)
	Seen(c commands.Command) (number uint64, o events.Outcome, reused, found bool)
	Next() uint64
	Term() uint64
}

// Options say how a dispatcher works. Log and Leader must be given.
type Options struct {
	Log    Log
	Leader func() bool // whether this server leads the log; called often, must not block

	AdminKey string // public nkey of the user "admin", for the first start on an empty log; empty: the log must not be empty

	// Restored is the number of the last decision in the backup that the log was restored from: while the log ends there, a new term is
	// opened before anything else is decided. 0: it was not restored.
	Restored uint64

	Core   func() Core      // nil: commands.NewState
	Clock  func() time.Time // nil: time.Now
	Full   func() bool      // whether the disk is so full that users' intents are refused; nil: never
	Logger *slog.Logger     // nil: nothing is logged

	MaxBlock int           // decisions in a block; 0 = 512
	Queue    int           // users' commands that may wait, and as many of machines and the system; 0 = 8192
	Poll     time.Duration // how often the others look for new blocks; 0 = 200 ms
	Silence  time.Duration // after which a machine counts as silent; 0 = 30 s
}

// maxBytes bounds the decisions of one block; maxDecision one of them. Both leave room below the bus's limit of 2 MiB.
const (
	maxBytes    = 768 << 10
	maxDecision = 1 << 20
)

// ErrNotActive says that another server decides, or none yet. The same command may be sent again with the same id.
var ErrNotActive = errors.New("this server does not decide now")

// ErrStopped says that the loop has met something that it must not go on from. Status tells the reason.
var ErrStopped = errors.New("deciding has stopped")

// Dispatcher is the loop. Its methods are safe for concurrent use.
type Dispatcher struct {
	o Options

	users    chan *pending // intents of people and programs
	internal chan *pending // reports and our own components, which intents must not starve

	ready   chan struct{} // closed after the first fold
	active  atomic.Bool
	stopped atomic.Pointer[error]

	mu    sync.RWMutex // guards the fold against readers; the loop alone writes
	core  Core
	pos   events.Position // the end of what is stored and folded
	dirty bool            // the fold holds what is perhaps not stored; only the loop uses it
	hooks []func([]events.Recorded)
	onAct []func(bool)

	replies  chan []waiting // answers of stored blocks, in order, given by a goroutine of their own
	applied  atomic.Uint64  // the last decision that is stored and folded
	moved    chan struct{}  // closed and made anew when applied rises; guarded by waitMu
	waitMu   sync.Mutex
	lastErr  atomic.Pointer[error]
	liveness liveness
}

// pending is a command that waits for its answer. A reaction has nobody who waits: done is nil.
type pending struct {
	cmd   commands.Command
	dry   bool
	until time.Time // then nobody waits any more; zero: for ever
	done  func(events.Answer, error)
}

func (p *pending) reply(a events.Answer, err error) {
	if p.done != nil {
		p.done(a, err)
	}
}

// New makes a dispatcher that does nothing before Run.
func New(o Options) (*Dispatcher, error) {
	if o.Log == nil || o.Leader == nil {
		return nil, errors.New("make dispatcher: log and leader must be given")
	}
	if o.Core == nil {
		o.Core = func() Core { return commands.NewState() }
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Full == nil {
		o.Full = func() bool { return false }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxBlock == 0 {
		o.MaxBlock = 512
	}
	if o.Queue == 0 {
		o.Queue = 8192
	}
	if o.Poll == 0 {
		o.Poll = 200 * time.Millisecond
	}
	if o.Silence == 0 {
		o.Silence = 30 * time.Second
	}
	d := &Dispatcher{
		o: o, users: make(chan *pending, o.Queue), internal: make(chan *pending, o.Queue), ready: make(chan struct{}),
		core: o.Core(), moved: make(chan struct{}), replies: make(chan []waiting, 64),
	}
	d.liveness.limit = o.Silence
	return d, nil
}

// Submit has a command decided, and returns when the decision is stored. A dry run returns what would follow, and stores nothing. The
// error says that no decision was made known: ErrNotActive, ErrStopped, or that of ctx; then the same command may be sent again.
func (d *Dispatcher) Submit(ctx context.Context, c commands.Command, dryRun bool) (events.Answer, error) {
	type result struct {
		answer events.Answer
		err    error
	}
	answered := make(chan result, 1)
	until, _ := ctx.Deadline()
	d.SubmitFunc(c, dryRun, until, func(a events.Answer, err error) { answered <- result{a, err} })
	select {
	case r := <-answered:
		return r.answer, r.err
	case <-ctx.Done():
		return events.Answer{}, ctx.Err()
	}
}

// SubmitFunc is Submit for those who answer many: it returns at once, and done is called exactly once, with what Submit would return.
// done must not block. A command that is not taken up before until, if that is set, fails with context.DeadlineExceeded.
func (d *Dispatcher) SubmitFunc(c commands.Command, dryRun bool, until time.Time, done func(events.Answer, error)) {
	if err := d.refusal(); err != nil {
		done(events.Answer{}, err)
		return
	}
	queue := d.internal
	if isUser(c.Actor) {
		if d.o.Full() {
			done(refuse(c, events.CodeUnavailable, "the disk of the log is almost full: what is left is kept for the machines' reports"), nil)
			return
		}
		queue = d.users
	} else {
		d.liveness.heardActor(c.Actor, d.o.Clock())
	}
	select {
	case queue <- &pending{c, dryRun, until, done}:
	default:
		done(refuse(c, events.CodeBusy, "too many requests wait: ask again with the same id"), nil)
	}
}

func (d *Dispatcher) refusal() error {
	if d.stopped.Load() != nil {
		return ErrStopped
	}
	if !d.active.Load() {
		return ErrNotActive
	}
	return nil
}

func refuse(c commands.Command, code, message string) events.Answer {
	return events.Answer{ID: c.Intent, Outcome: events.Outcome{Status: events.Refused, Code: code, Message: message}}
}

// Active says whether this dispatcher decides now.
func (d *Dispatcher) Active() bool { return d.active.Load() }

// Ready is closed when the log that was there at the start is folded.
func (d *Dispatcher) Ready() <-chan struct{} { return d.ready }

// OnActive registers f, which is called when this dispatcher begins (true) and ceases (false) to decide. Call it before Run. f must not
// call Submit.
func (d *Dispatcher) OnActive(f func(bool)) { d.onAct = append(d.onAct, f) }

// OnApplied registers f, which is given each stored decision once, in order, after the first fold: active or not. Call it before Run.
// f runs in the loop: it must be quick, must not call Submit, and must not keep or change the slice.
func (d *Dispatcher) OnApplied(f func([]events.Recorded)) { d.hooks = append(d.hooks, f) }

// View calls f with the fold, which f may only read and must not keep. While active the fold is ahead of the log by what is being
// stored at this moment. f holds the loop up: it must be quick.
func (d *Dispatcher) View(f func(Core)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	f(d.core)
}

// Wait returns when the decision with this number is stored and folded here, or with the error of ctx.
func (d *Dispatcher) Wait(ctx context.Context, number uint64) error {
	for {
		d.waitMu.Lock()
		moved := d.moved
		d.waitMu.Unlock()
		if d.applied.Load() >= number {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Applied is the number of the last decision that is stored and folded here.
func (d *Dispatcher) Applied() uint64 { return d.applied.Load() }

// LastHeard is when a machine last gave a sign of life to this server while it was active; zero: never.
func (d *Dispatcher) LastHeard(m events.MachineID) time.Time { return d.liveness.lastHeard(m) }

// Heard notes that a machine has given a sign of life that is not a report.
func (d *Dispatcher) Heard(m events.MachineID) { d.liveness.heard(m, d.o.Clock()) }

// Status says what the dispatcher does.
type Status struct {
	Active  bool
	Applied uint64 // number of the last stored decision
	Queue   int    // commands that wait
	Stopped error  // why it will not decide until it is started again; nil: it has not stopped
	Trouble error  // the last failure to read or append, nil after a success
}

// Status may be asked at any time.
func (d *Dispatcher) Status() Status {
	s := Status{Active: d.Active(), Applied: d.Applied(), Queue: len(d.users) + len(d.internal)}
	if e := d.stopped.Load(); e != nil {
		s.Stopped = *e
	}
	if e := d.lastErr.Load(); e != nil {
		s.Trouble = *e
	}
	return s
}

// Health is nil while nothing is wrong.
func (d *Dispatcher) Health() error {
	s := d.Status()
	if s.Stopped != nil {
		return s.Stopped
	}
	return s.Trouble
}
