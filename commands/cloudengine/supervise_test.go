package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
)

func TestPartsStopInReverseOrder(t *testing.T) {
	s := newSupervisor(slog.New(slog.DiscardHandler))
	var order []string
	for _, name := range []string{"bus", "dispatch", "api"} {
		s.onStop(name, func() error { order = append(order, name); return nil })
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(s.wait(ctx), s.stop()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(order, []string{"api", "dispatch", "bus"}) {
		t.Errorf("stopped in the order %v", order)
	}
}

func TestPartThatEndsEndsTheServer(t *testing.T) {
	s := newSupervisor(slog.New(slog.DiscardHandler))
	broken := errors.New("the disk is full")
	s.onStop("bus", func() error { return nil })
	s.run("dispatch", func(context.Context) error { return broken })
	if err := s.wait(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := s.stop(); !errors.Is(err, broken) {
		t.Errorf("stop gave %v", err)
	}
	s = newSupervisor(slog.New(slog.DiscardHandler))
	s.run("feed", func(context.Context) error { return nil })
	if err := s.wait(t.Context()); err == nil {
		t.Error("a part that ended in silence was not noticed")
	}
}
