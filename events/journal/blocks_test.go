package journal_test

import (
	"context"
	"errors"
	"testing"

	"cloudengine/events"
)

func TestBlocksAsTheyAreStored(t *testing.T) {
	_, j := open(t)
	var at events.Position
	var stored []string
	for range 200 {
		b := block(at, 2)
		payload, err := b.Encode()
		must(t, err)
		stored = append(stored, string(payload))
		at = write(t, j, at, b)
	}
	for _, after := range []uint64{0, 1, 150, 199, 200} {
		next := after
		must(t, j.Blocks(t.Context(), after, func(seq uint64, payload []byte) error {
			if next++; seq != next || string(payload) != stored[seq-1] {
				t.Errorf("sequence %d after %d: %.60s", seq, next-1, payload)
			}
			return nil
		}))
		if next != 200 {
			t.Errorf("after %d it ends at %d", after, next)
		}
		stop := errors.New("stop")
		if err := j.Blocks(t.Context(), after, func(uint64, []byte) error { return stop }); after < 200 && !errors.Is(err, stop) {
			t.Errorf("after %d: %v", after, err)
		}
	}
	if _, err := j.Payload(t.Context(), 201); !errors.Is(err, events.ErrBroken) {
		t.Errorf("a block that is not there: %v", err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	err := j.Blocks(stopped, 0, func(seq uint64, _ []byte) error {
		if seq == 10 {
			cancel()
		}
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
