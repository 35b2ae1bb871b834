package verifier

import (
	"context"
	"errors"
	"sync"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/verify"

	"github.com/nats-io/nats.go"
)

// hosts asks every host live and compares.
func (r *run) hosts(ctx context.Context, out *verify.List) (checked int, err error) {
	if r.cfg.Ask == nil {
		return 0, ErrNotHere
	}
	found, err := r.steady(ctx, r.cfg.Looks, func(ctx context.Context) ([]verify.Finding, error) {
		if err := r.fold.forward(ctx, 0, nil); err != nil { // a machine may have come
			return nil, err
		}
		ids := r.cloud().Machines()
		checked = len(ids)
		said := func(n int) {
			r.say(wire.VerifyProgress{Section: verify.Hosts, Doing: "hosts", Done: uint64(n), Of: uint64(len(ids))})
		}
		live := each(ctx, ids, 64, r.ask, said)
		if err := r.fold.forward(ctx, 0, nil); err != nil { // after the answers: what they show was decided before
			return nil, err
		}
		return r.cloud().Live(live), nil
	})
	out.Add(found...)
	return checked, err
}

// ask asks one host for all that it knows.
func (r *run) ask(ctx context.Context, m events.MachineID) verify.Live {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.AskTime)
	defer cancel()
	a, err := r.cfg.Ask(ctx, m)
	if why := r.unanswered(a, err); why != "" {
		return verify.Live{Missing: why}
	}
	l := verify.Live{Boot: a.Boot, Domains: a.Domains}
	if w := a.Whole; w != nil {
		l.Whole, l.Stamps, l.Held, l.Busy, l.Image = true, w.Stamps, w.Documents, w.Busy, w.Image
	}
	return l
}

// unanswered says why there is no answer, or nothing.
func (r *run) unanswered(a wire.InspectAnswer, err error) string {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return "its agent is not connected"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return "no answer within " + r.cfg.AskTime.String()
	case err != nil:
		return err.Error()
	case a.Error != nil:
		return "its tools fail: " + a.Error.Message
	}
	return ""
}

// each asks for every id, at most so many at once, and gives all answers.
func each[A any](ctx context.Context, ids []events.MachineID, atOnce int, ask func(context.Context, events.MachineID) A, said func(done int)) map[events.MachineID]A {
	var mu sync.Mutex
	var all sync.WaitGroup
	out := make(map[events.MachineID]A, len(ids))
	slots := make(chan struct{}, atOnce)
	said(0)
	for _, id := range ids {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			a := ask(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			out[id] = a
			said(len(out))
		})
	}
	all.Wait()
	return out
}
