//go:build lab

package dm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloudengine/workers/dm"
)

// TestRealEvents: a device that is made, or a map that is told to fail a path, ends a wait; reads of a status do not.
func TestRealEvents(t *testing.T) {
	e, err := dm.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	wait := func(most time.Duration, want bool, what string) {
		t.Helper()
		began := time.Now()
		if got, err := e.Wait(t.Context(), most); err != nil || got != want {
			t.Fatalf("%s: %v, %v, want %v", what, got, err, want)
		}
		t.Logf("%s: after %s", what, time.Since(began))
	}
	wait(200*time.Millisecond, false, "nothing happens")
	later := make(chan error, 1)
	go func() {
		time.Sleep(100 * time.Millisecond)
		later <- dm.Create("ce-test-e", "CE-test-e", []dm.Target{dm.Error(0, 2048)})
	}()
	t.Cleanup(func() { _ = dm.Remove("ce-test-e") })
	wait(20*time.Second, true, "a device is made")
	if err := <-later; err != nil {
		t.Fatal(err)
	}
	wait(20*time.Second, true, "still, for nobody has armed")
	if err := e.Arm(); err != nil {
		t.Fatal(err)
	}
	if _, err := dm.List(); err != nil {
		t.Fatal(err)
	}
	wait(200*time.Millisecond, false, "it was only read")
	if err := e.Arm(); err != nil {
		t.Fatal(err)
	}
	if err := dm.Remove("ce-test-e"); err != nil {
		t.Fatal(err)
	}
	wait(20*time.Second, true, "it was removed between arm and wait")
	if err := e.Arm(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := e.Wait(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the context ends: %v", err)
	}
	wait(200*time.Millisecond, false, "it can be used again")
}
