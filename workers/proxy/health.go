package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/workers/reserve"
)

// DefaultProbe is how often legs are looked at: md does not notice by itself that a leg is gone while nothing is read or written.
const DefaultProbe = 2 * time.Second

// Run looks at md's state, and at the legs of the arrays that run and who has reserved them, each time after every, and wakes the loop when something
// is not as before. An array that somebody else has reserved is made unavailable at once. What the kernel tells of md by itself is seen at once: see watch.
// It waits for what it has begun. every 0 is DefaultProbe.
func (w *Worker) Run(ctx context.Context, every time.Duration) error {
	w.init()
	if every == 0 {
		every = DefaultProbe
	}
	defer w.Wait()
	watching := make(chan error, 1)
	go func() { watching <- w.watch(ctx, every) }()
	defer func() { <-watching }() // ctx has ended
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		now, err := w.pulse(ctx)
		switch {
		case err != nil:
			w.Log.Warn("look at md", "err", err)
		case now != last && w.Wake != nil:
			w.Wake()
		}
		last = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// pulse renders all whose change matters.
func (w *Worker) pulse(ctx context.Context) (string, error) {
	arrays, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return "", err
	}
	look, cancel := context.WithTimeout(ctx, superTimeout)
	defer cancel()
	keys, err := w.keys()
	if err != nil {
		return "", err
	}
	b := &strings.Builder{}
	robbed := map[events.ArrayID]string{}
	for _, a := range arrays {
		fmt.Fprintf(b, "%s %s %v %d %s\n", a.Name, a.UUID, a.Serves(), a.Degraded, a.SyncAction)
		for _, m := range a.Members {
			s := w.supers.get(look, m.Dev)
			fmt.Fprintf(b, " %s %d %v %v", m.Dev, m.Slot, m.States, s.Err != nil && !errors.Is(s.Err, errSlow))
			for slot := range a.RaidDisks {
				fmt.Fprint(b, " ", s.Err != nil || s.Has(slot)) // superblocks follow md's state a little later
			}
			fmt.Fprintln(b, " ", s.Slot(), s.Replaces(), s.Complete())
			lock := w.lockNow(look, m.Dev)
			fmt.Fprintln(b, " ", lock.Holder, lock.Keys, lock.Err != nil)
			if own, ok := keys[events.ArrayID(a.UUID)]; ok && !m.Is("faulty") {
				if why := robs(own, lock, s.Err, true); why != "" {
					robbed[events.ArrayID(a.UUID)] = m.Dev + ": " + why
				}
			}
		}
	}
	return b.String(), w.unavailable(ctx, robbed)
}

func (w *Worker) lockNow(ctx context.Context, dev string) Lock {
	s, err := w.Initiator.Reservation(ctx, dev)
	return Lock{s, err}
}

// keys gives the reservation keys of the arrays that were assembled here, by the epochs of their owner devices.
func (w *Worker) keys() (map[events.ArrayID]reserve.Key, error) {
	devices, err := w.Mapper.List()
	if err != nil {
		return nil, err
	}
	out := map[events.ArrayID]reserve.Key{}
	for _, d := range devices {
		if !strings.HasPrefix(d.UUID, ownUUID) {
			continue
		}
		id := events.ArrayID(strings.TrimPrefix(d.Name, ownName))
		if k, err := reserve.KeyOf(id, view{id: id, own: &d}.epoch(), w.Boot); err == nil {
			out[id] = k
		}
	}
	return out, nil
}
