package verifier

import (
	"context"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/verify"
)

// storage asks every storage node, proxy and host on a fabric live and compares.
func (r *run) storage(ctx context.Context, out *verify.List) (checked int, err error) {
	if r.cfg.AskStorage == nil {
		return 0, ErrNotHere
	}
	found, err := r.steady(ctx, r.cfg.Looks, func(ctx context.Context) ([]verify.Finding, error) {
		if err := r.fold.forward(ctx, 0, nil); err != nil { // a machine may have come
			return nil, err
		}
		ids := r.cloud().StorageMachines()
		checked = len(ids)
		live := each(ctx, ids, 64, r.askStorage, func(n int) {
			r.say(wire.VerifyProgress{Section: verify.Storage, Doing: "machines", Done: uint64(n), Of: uint64(len(ids))})
		})
		if err := r.fold.forward(ctx, 0, nil); err != nil { // after the answers: what they show was decided before
			return nil, err
		}
		return r.cloud().LiveStorage(live), nil
	})
	out.Add(found...)
	return checked, err
}

// askStorage asks one machine what it sees of storage.
func (r *run) askStorage(ctx context.Context, m events.MachineID) verify.LiveStorage {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.AskTime)
	defer cancel()
	a, err := r.cfg.AskStorage(ctx, m)
	switch why := r.unanswered(a, err); {
	case why != "":
		return verify.LiveStorage{Missing: why}
	case a.Storage == nil:
		return verify.LiveStorage{Missing: "its agent does not know the question"}
	}
	return verify.LiveStorage{Boot: a.Boot, Seen: *a.Storage, Maps: a.Maps}
}
