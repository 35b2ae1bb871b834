package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"cloudengine/commands"
	"cloudengine/events"
)

const (
	leaderCheck = 50 * time.Millisecond
	stopGrace   = 5 * time.Second // for the block under way when the program ends
	maxRefolds  = 10              // without a block in between; then leadership is looked at anew
)

// lead is the loop of the active dispatcher. While one block is being stored, the next is decided on the live fold; it is sent only
// after the first is acknowledged. When a block is not stored, the fold is made again from the log, and what was decided since is
// decided again.
type lead struct {
	*Dispatcher
	open     *batch             // takes decisions
	inflight *batch             // is being stored; nil: none
	stored   chan stored        // tells what became of it
	own      []commands.Command // reactions and deadlines, before anything else
	again    []*pending         // to be decided again after a refold, before anything new
	current  *pending           // is being decided
	spare    []byte             // room for the decisions of a block, to be used again
	prev     string             // digest of the last closed block
	enc      *encoder
	refolds  int
	folded   bool // something was folded since the timer was set
}

type stored struct {
	seq uint64
	err error
}

// guarded runs the loop and turns a broken invariant into a stop.
func (d *Dispatcher) guarded(ctx context.Context) (err error) {
	l := &lead{Dispatcher: d, stored: make(chan stored, 1), enc: newEncoder()}
	defer func() {
		if r := recover(); r != nil {
			d.stop(fmt.Errorf("an invariant is broken: %v\n%s", r, debug.Stack()))
		}
		l.cease()
	}()
	return l.run(ctx)
}

func (l *lead) run(ctx context.Context) error {
	if err := l.begin(ctx); err != nil || l.stopped.Load() != nil {
		return err
	}
	actx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	check := time.NewTicker(leaderCheck)
	defer check.Stop()
	deadline := time.NewTimer(time.Hour)
	defer deadline.Stop()
	for {
		l.decideOwn()
		l.send(actx)
		if l.folded {
			l.setTimer(deadline)
		}
		users, internal := l.users, l.internal
		if l.full() {
			users, internal = nil, nil
		}
		select {
		case r := <-l.stored:
			if err := l.settle(actx, r); err != nil {
				return err
			}
		case p := <-internal:
			l.take(p)
		case p := <-users:
			l.take(p)
		case <-deadline.C:
			if l.folded = true; len(l.own) == 0 { // what is due already waits for the disk
				l.own = l.due()
			}
		case <-check.C:
			if !l.o.Leader() || l.stopped.Load() != nil {
				return l.finish(actx)
			}
			l.own = append(l.own, l.look()...)
		case <-ctx.Done():
			return l.finish(actx)
		}
	}
}

// begin catches up with the log, opens it if it is empty, and announces that this server decides.
func (l *lead) begin(ctx context.Context) error {
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	l.prev = l.pos.Digest
	l.openBatch()
	if l.core.Next() == 1 {
		if err := l.bootstrap(); err != nil {
			return err
		}
	}
	if n := l.core.Next(); l.o.Restored > 0 && n == l.o.Restored+1 {
		l.own = append(l.own, openRestored(n, l.core.Term()+1))
	}
	l.own = append(l.own, l.core.Resume()...)
	l.liveness.restart()
	l.folded = true
	l.o.Logger.Info("this server decides", "from", l.core.Next(), "term", l.core.Term())
	l.active.Store(true)
	for _, f := range l.onAct {
		f(true)
	}
	return nil
}

// bootstrap begins an empty log: its first term, and the user admin.
func (l *lead) bootstrap() error {
	if l.o.AdminKey == "" {
		return errors.New("open the log: it is empty, and no key of an administrator is given")
	}
	for _, c := range []commands.Command{
		{Kind: events.KindLog, Verb: "open", Args: encode(commands.OpenLog{Term: 1, Cause: "created"})},
		{Kind: events.KindUser, Verb: "create", Args: encode(commands.CreateUser{Name: "admin", Key: l.o.AdminKey, Role: events.RoleAdmin})},
	} {
		c.Actor, c.Intent = commands.ActorBootstrap, events.FreeFormID(commands.ActorBootstrap, string(c.Kind))
		if err := commands.Check(c); err != nil {
			return fmt.Errorf("open the log: %w", err)
		}
		l.own = append(l.own, c)
	}
	return nil
}

// openRestored opens the term that begins with decision n.
func openRestored(n, term uint64) commands.Command {
	return commands.Command{
		Kind: events.KindLog, Verb: "open", Args: encode(commands.OpenLog{Term: term, Cause: events.CauseRestored}),
		Actor: commands.ActorBootstrap, Intent: events.FreeFormID(commands.ActorBootstrap, fmt.Sprintf("restored %d", n)),
	}
}

func encode(v any) json.RawMessage {
	b, _ := json.Marshal(v) // strings and numbers only
	return b
}

// cease ends the activity: whoever waits is told to ask again. When the fold holds decisions that are perhaps not stored, it is made again.
func (l *lead) cease() {
	if l.active.Swap(false) {
		l.o.Logger.Info("this server does not decide any more")
		for _, f := range l.onAct {
			f(false)
		}
	}
	l.dismiss(l.unsettled())
	l.dirty = l.core.Next() != l.pos.Number+1
}

// unsettled gives the commands that were taken and not answered, in order.
func (l *lead) unsettled() []*pending {
	var out []*pending
	for _, b := range []*batch{l.inflight, l.open} {
		if b != nil {
			for _, w := range b.waiting {
				if w.p.done != nil { // reactions are made again by the fold
					out = append(out, w.p)
				}
			}
		}
	}
	if l.current != nil {
		out = append(out, l.current)
	}
	out = append(out, l.again...)
	l.inflight, l.open, l.again, l.current = nil, nil, nil, nil
	return out
}

// finish waits for the block under way and gives up the rest.
func (l *lead) finish(ctx context.Context) error {
	if l.inflight == nil {
		return nil
	}
	r := <-l.stored
	if r.err != nil {
		return nil // whoever becomes active finds out
	}
	l.confirm(r.seq)
	return nil
}

// settle hears what became of the block under way.
func (l *lead) settle(ctx context.Context, r stored) error {
	if r.err == nil {
		l.refolds = 0
		l.confirm(r.seq)
		return nil
	}
	if !errors.Is(r.err, events.ErrConflict) {
		return r.err // all that wait are told to ask again; the fold is made anew
	}
	l.o.Logger.Warn("another server has written to the log", "err", r.err)
	if l.refolds++; l.refolds > maxRefolds {
		return r.err
	}
	again := l.unsettled()
	if err := l.refold(ctx); err != nil {
		l.again = again
		return err
	}
	if l.stopped.Load() != nil {
		l.again = again
		return nil
	}
	l.again, l.prev, l.own = again, l.pos.Digest, l.core.Resume()
	l.folded = true
	l.openBatch()
	return nil
}

// confirm makes the stored block known: position, answers, hooks.
func (l *lead) confirm(seq uint64) {
	b := l.inflight
	l.inflight = nil
	l.mu.Lock()
	l.pos = events.Position{Seq: seq, Number: b.recorded[len(b.recorded)-1].Number, Term: b.term, Digest: b.digest, Time: b.time}
	l.mu.Unlock()
	l.announce(b.recorded)
	l.replies <- b.waiting
}

// send closes the open block and has it stored, if none is under way and all that waits is in it.
func (l *lead) send(ctx context.Context) {
	if l.inflight != nil || l.open.empty() || !l.full() && len(l.users)+len(l.internal)+len(l.again) > 0 {
		return
	}
	b, after := l.open, l.pos.Seq
	b.close(l.prev)
	l.inflight, l.prev, l.spare = b, b.digest, b.body[:0]
	l.openBatch()
	go func() { // settle or finish waits for it
		seq, err := l.o.Log.Append(ctx, after, b.payload)
		l.stored <- stored{seq, err}
	}()
}

// openBatch begins a block. It will be about as large as the last.
func (l *lead) openBatch() {
	b := &batch{body: l.spare}
	l.spare = nil
	if l.open != nil {
		b.recorded = make([]events.Recorded, 0, len(l.open.recorded)+8)
		b.waiting = make([]waiting, 0, len(l.open.recorded)+8)
	}
	l.open = b
}

func (l *lead) full() bool {
	return l.open.sealed || len(l.open.recorded) >= l.o.MaxBlock || len(l.open.body) >= maxBytes || len(l.open.waiting) >= 4*l.o.MaxBlock
}
