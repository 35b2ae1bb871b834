package main

import (
	"testing"
	"time"
)

func TestProgressLine(t *testing.T) {
	const mib = 1 << 20
	for _, x := range []struct {
		done, total, first int64
		want               string
	}{
		{50 * mib, 100 * mib, 0, "pack: 50.0MiB of 100.0MiB (50 %), 10s left"},
		{75 * mib, 100 * mib, 50 * mib, "pack: 75.0MiB of 100.0MiB (75 %), 10s left"}, // it goes on: what was done before says nothing
		{50 * mib, 100 * mib, 50 * mib, "pack: 50.0MiB of 100.0MiB (50 %)"},
		{100 * mib, 100 * mib, 0, "pack: 100.0MiB of 100.0MiB (100 %)"},
		{50 * mib, 0, 0, "pack: 50.0MiB"},
	} {
		if got := progressLine("pack", x.done, x.total, x.first, 10*time.Second); got != x.want {
			t.Errorf("got %q, want %q", got, x.want)
		}
	}
}
