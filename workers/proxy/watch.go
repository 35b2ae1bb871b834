package proxy

import (
	"context"
	"fmt"
	"time"

	"cloudengine/events"
	"cloudengine/workers/md"
)

// watchPause bounds how often md is looked at while it tells of changes all the time, as it does while hosts write now and then.
const watchPause = 50 * time.Millisecond

// watch waits for what the kernel tells of md, and makes an array that does not serve any more unavailable at once. The loop, which is
// woken, does the rest; alone it would first wait for legs that do not answer.
func (w *Worker) watch(ctx context.Context, every time.Duration) error {
	last := ""
	for {
		now, err := w.withdraw(ctx)
		if err != nil {
			w.Log.Warn("look at what md tells", "err", err)
		}
		if now != last && w.Wake != nil {
			w.Wake()
		}
		last = now
		if err := md.Wait(ctx, w.Root, every); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			w.Log.Warn("wait for md", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPause):
		}
	}
}

// withdraw makes arrays unavailable whose md gave up, and renders what else the loop should know of at once. A path to such an array would
// answer with errors, and after a fence with what another owner has overwritten.
func (w *Worker) withdraw(ctx context.Context) (string, error) {
	arrays, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return "", err
	}
	var told string
	gone := map[events.ArrayID]bool{}
	for _, a := range arrays {
		told += fmt.Sprintf("%s %v %d", a.UUID, a.Serves(), a.Degraded)
		for _, m := range a.Members {
			told += fmt.Sprintf(" %s %v", m.Dev, m.Is("faulty"))
		}
		if a.UUID != "" && !a.Serves() {
			gone[events.ArrayID(a.UUID)] = true
		}
	}
	if len(gone) == 0 {
		return told, nil
	}
	exports, err := w.Target.Exports(ctx)
	if err != nil {
		return told, fmt.Errorf("list exports: %w", err)
	}
	for _, e := range exports {
		if gone[e.Array] && e.State == ExportActive {
			if err := w.Target.SetState(ctx, e.Array, ExportUnavailable); err != nil {
				return told, fmt.Errorf("withdraw array %s: %w", e.Array, err)
			}
			w.Log.Warn("md gave the array up: it is unavailable", "array", e.Array)
		}
	}
	return told, nil
}
