package main

import (
	"context"
	"errors"
	"testing"
)

func TestWorkRunsOnlyWhileActive(t *testing.T) {
	a := newActivity()
	ctx, cancel := context.WithCancel(t.Context())
	began, ended := make(chan struct{}), make(chan struct{})
	over := make(chan error, 1)
	go func() {
		over <- a.while(ctx, func(ctx context.Context) error {
			began <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return ctx.Err()
		})
	}()
	for range 3 {
		a.set(true)
		<-began
		a.set(false)
		<-ended
	}
	a.set(true)
	<-began
	cancel()
	<-ended
	if err := <-over; err != nil {
		t.Errorf("got %v", err)
	}
	broken := errors.New("broken")
	if err := a.while(t.Context(), func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
