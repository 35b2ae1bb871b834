package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/workers/md"
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

// glance is what one member said.
type glance struct {
	super Super
	lock  Lock
}

// pulse renders all whose change matters. Members are looked at at once, and one that tells of a lost lock counts before the others have answered:
// one that hangs must not hide it.
func (w *Worker) pulse(ctx context.Context) (string, error) {
	arrays, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return "", err
	}
	keys, err := w.keys()
	if err != nil {
		return "", err
	}
	seen, err := w.glances(ctx, arrays, keys)
	b := &strings.Builder{}
	for _, a := range arrays {
		fmt.Fprintf(b, "%s %s %v %d %s\n", a.Name, a.UUID, a.Serves(), a.Degraded, a.SyncAction)
		for _, m := range a.Members {
			s, lock := seen[m.Dev].super, seen[m.Dev].lock
			fmt.Fprintf(b, " %s %d %v %v", m.Dev, m.Slot, m.States, s.Err != nil && !errors.Is(s.Err, errSlow))
			for slot := range a.RaidDisks {
				fmt.Fprint(b, " ", s.Err != nil || s.Has(slot)) // superblocks follow md's state a little later
			}
			fmt.Fprintln(b, " ", s.Slot(), s.Replaces(), s.Complete())
			fmt.Fprintln(b, " ", lock.Holder, lock.Keys, lock.Err != nil)
		}
	}
	return b.String(), err
}

// glances looks at all members at once, for at most superTimeout, and makes an array unavailable as soon as one of them says that it is another's.
func (w *Worker) glances(ctx context.Context, arrays []md.Array, keys map[events.ArrayID]reserve.Key) (map[string]glance, error) {
	look, cancel := context.WithTimeout(ctx, superTimeout)
	defer cancel()
	type answer struct {
		glance
		array  events.ArrayID
		member md.Member
	}
	answers, left := make(chan answer), 0
	for _, a := range arrays {
		for _, m := range a.Members {
			left++
			w.supers.group.Go(func() {
				locked := make(chan Lock, 1)
				go func() { locked <- w.lockNow(look, m.Dev) }()
				s := w.supers.get(look, m.Dev)
				answers <- answer{glance{s, <-locked}, events.ArrayID(a.UUID), m}
			})
		}
	}
	seen, robbed := map[string]glance{}, map[events.ArrayID]string{}
	var errs error
	for ; left > 0; left-- {
		x := <-answers
		seen[x.member.Dev] = x.glance
		own, ok := keys[x.array]
		if !ok || x.member.Is("faulty") || robbed[x.array] != "" {
			continue
		}
		if why := robs(own, x.lock, x.super.Err, true); why != "" {
			robbed[x.array] = x.member.Dev + ": " + why
			errs = errors.Join(errs, w.unavailable(ctx, map[events.ArrayID]string{x.array: robbed[x.array]}))
		}
	}
	return seen, errs
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
