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
// answer with errors, and after a fence by access lists alone with what another owner has overwritten.
func (w *Worker) withdraw(ctx context.Context) (string, error) {
	arrays, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return "", err
	}
	var told string
	gone := map[events.ArrayID]string{}
	for _, a := range arrays {
		told += fmt.Sprintf("%s %v %d", a.UUID, a.Serves(), a.Degraded)
		for _, m := range a.Members {
			told += fmt.Sprintf(" %s %v", m.Dev, m.Is("faulty"))
		}
		if a.UUID != "" && !a.Serves() {
			gone[events.ArrayID(a.UUID)] = "md gave it up"
		}
	}
	return told, w.unavailable(ctx, gone)
}

// unavailable makes arrays unavailable to hosts, beside the loop; why says so of each.
func (w *Worker) unavailable(ctx context.Context, why map[events.ArrayID]string) error {
	if len(why) == 0 {
		return nil
	}
	exports, err := w.Target.Exports(ctx)
	if err != nil {
		return fmt.Errorf("list exports: %w", err)
	}
	for _, e := range exports {
		if why[e.Array] == "" || e.State != ExportActive {
			continue
		}
		if err := w.Target.SetState(ctx, e.Array, ExportUnavailable); err != nil {
			return fmt.Errorf("withdraw array %s: %w", e.Array, err)
		}
		w.Log.Warn("the array is unavailable", "array", e.Array, "why", why[e.Array])
	}
	return nil
}
