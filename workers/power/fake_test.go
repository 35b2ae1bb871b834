package power

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"cloudengine/events"
)

// fakeBMC is a BMC in memory. Its zero value is off. It passes the same suite as a real one.
type fakeBMC struct {
	password string

	mu     sync.Mutex
	on     bool
	pxe    bool
	id     Identity
	slow   int      // status reads that still tell the old state after a change
	before bool     // the old state
	acts   []string // what was done, in order
	down   error    // sessions fail
	hook   func()   // called at each status read, without the lock
	onAct  func(act string)
}

var errPassword = errors.New("RAKP authentication failed")

// connect is the fake's Connect.
func (b *fakeBMC) connect(_ context.Context, t Target) (BMC, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return nil, b.down
	}
	if !bytes.Equal(t.Password, []byte(b.password)) {
		return nil, errPassword
	}
	return &fakeSession{b: b}, nil
}

func (b *fakeBMC) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprint(b.acts)
}

// set changes the power from outside, as a hand on the button does.
func (b *fakeBMC) set(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on = on
}

func (b *fakeBMC) isOn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.on
}

func (b *fakeBMC) nextBootPXE() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pxe
}

type fakeSession struct {
	b      *fakeBMC
	closed bool
}

var errSessionClosed = errors.New("the session is closed")

func (s *fakeSession) do(ctx context.Context, f func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.closed {
		return errSessionClosed
	}
	if s.b.down != nil {
		return s.b.down
	}
	f()
	return nil
}

func (s *fakeSession) Status(ctx context.Context) (string, error) {
	state := events.PowerIsUnknown
	err := s.do(ctx, func() {
		on := s.b.on
		if s.b.slow > 0 {
			s.b.slow--
			on = s.b.before
		}
		state = events.PowerIsOff
		if on {
			state = events.PowerIsOn
		}
	})
	if s.b.hook != nil {
		s.b.hook()
	}
	return state, err
}

func (s *fakeSession) On(ctx context.Context) error {
	return s.do(ctx, func() { s.b.before, s.b.on = s.b.on, true; s.b.note("on") })
}

func (s *fakeSession) Off(ctx context.Context) error {
	return s.do(ctx, func() { s.b.before, s.b.on = s.b.on, false; s.b.note("off") })
}

func (s *fakeSession) SetBootPXE(ctx context.Context) error {
	return s.do(ctx, func() { s.b.pxe = true; s.b.note("pxe") })
}

func (b *fakeBMC) note(act string) {
	b.acts = append(b.acts, act)
	if b.onAct != nil {
		b.onAct(act)
	}
}

func (s *fakeSession) Identify(ctx context.Context) (Identity, error) {
	var id Identity
	err := s.do(ctx, func() { id = s.b.id })
	return id, err
}

func (s *fakeSession) Close() error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.closed = true
	return nil
}
