package verifier

import (
	"context"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/verify"
)

// networks asks every host that may have networks of accounts live, and compares.
func (r *run) networks(ctx context.Context, out *verify.List) (checked int, err error) {
	if r.cfg.AskNetworks == nil {
		return 0, ErrNotHere
	}
	found, err := r.steady(ctx, r.cfg.Looks, func(ctx context.Context) ([]verify.Finding, error) {
		if err := r.fold.forward(ctx, 0, nil); err != nil { // a host may have come
			return nil, err
		}
		ids := r.cloud().NetworkMachines()
		checked = len(ids)
		live := each(ctx, ids, 64, r.askNetworks, func(n int) {
			r.say(wire.VerifyProgress{Section: verify.Networks, Doing: "hosts", Done: uint64(n), Of: uint64(len(ids))})
		})
		if err := r.fold.forward(ctx, 0, nil); err != nil { // after the answers: what they show was decided before
			return nil, err
		}
		return r.cloud().LiveNetworks(live), nil
	})
	out.Add(found...)
	return checked, err
}

// askNetworks asks one host what it sees of networks.
func (r *run) askNetworks(ctx context.Context, m events.MachineID) verify.LiveNetworks {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.AskTime)
	defer cancel()
	a, err := r.cfg.AskNetworks(ctx, m)
	switch why := r.unanswered(a, err); {
	case why != "":
		return verify.LiveNetworks{Missing: why}
	case a.Networks == nil:
		return verify.LiveNetworks{Missing: "its agent does not know the question"}
	}
	return verify.LiveNetworks{Boot: a.Boot, Seen: *a.Networks}
}
