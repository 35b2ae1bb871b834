package api

import (
	"errors"
	"sync"
	"testing"
	"time"

	"cloudengine/commands"
	"cloudengine/events"
	"cloudengine/events/broker"
)

// holder is a decider whose loop tells nobody anything before it has closed the door, as it does when it ceases to lead.
type holder struct {
	recorder
	mu   sync.Mutex
	held []func(events.Answer, error)
}

func (h *holder) SubmitFunc(_ commands.Command, _ bool, _ time.Time, done func(events.Answer, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = append(h.held, done)
}

func (h *holder) dismiss(err error) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, done := range h.held {
		done(events.Answer{}, err)
	}
	n, h.held = len(h.held), nil
	return n
}

// The loop calls Close itself, and afterwards tells those who wait that there is no decision. If Close waited for them, neither would
// ever go on, and the server would never decide again.
func TestCloseDoesNotWaitForTheLoopThatCallsIt(t *testing.T) {
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	bus, err := srv.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	s, _ := service(t)
	h := &holder{}
	s.cfg.Bus, s.cfg.Decider = bus, h
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := bus.Request("do.ann.vm.create", []byte(`{"id":"`+anID+`"}`), 60*time.Second)
		answered <- err
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		n := len(h.held)
		h.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the intent did not come")
		}
	}
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("Close waits for the loop, which waits for Close")
	}
	if h.dismiss(errors.New("this server does not decide now")) != 1 {
		t.Error("the intent was not dismissed once")
	}
	if err := <-answered; err != nil {
		t.Errorf("nobody told the client: %v", err)
	}
	<-closed
}

var _ asyncDecider = (*holder)(nil)
