package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"cloudengine/events"
	"cloudengine/workers"
	"cloudengine/workers/dm"
	"cloudengine/workers/md"
)

// bringUp makes or assembles an array and puts the owner device over it. All that was planned with is looked at once more: the same legs, and
// superblocks that lead to the same choice. Without the owner device the array does not stay: nobody could say under which epoch it runs.
func (w *Worker) bringUp(ctx context.Context, id events.ArrayID, s workers.Step) error {
	var o order
	if err := json.Unmarshal([]byte(s.Params["order"]), &o); err != nil {
		return workers.Permanent(fmt.Errorf("read order: %w", err))
	}
	w.session.Lock()
	defer w.session.Unlock()
	w.forget(id)
	candidates, err := w.candidatesNow(ctx, id, o)
	if err != nil {
		return err
	}
	if err := w.nowhere(id); err != nil {
		return err
	}
	var name string
	if s.Kind == stepCreate {
		if !md.NeverRan(ofArray(candidates, id)) {
			return fmt.Errorf("create array %s: %w: its legs have run", id, errChanged)
		}
		name, err = w.Arrays.Create(ctx, *o.Spec)
	} else {
		members, _, refused := md.Choose(o.Wanted, candidates)
		if refused != nil {
			return refused
		}
		if len(members) != len(o.Legs) {
			return fmt.Errorf("assemble array %s: %w: legs differ", id, errChanged)
		}
		name, err = w.Arrays.Assemble(ctx, o.Wanted, members)
	}
	if err != nil {
		return err
	}
	if err := w.own(id, name, o); err != nil {
		return errors.Join(err, w.Arrays.Stop(ctx, name))
	}
	return nil
}

// candidatesNow reads the superblocks of the ordered legs, which must be reserved for the order's epoch.
func (w *Worker) candidatesNow(ctx context.Context, id events.ArrayID, o order) ([]md.Candidate, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*superTimeout)
	defer cancel()
	own, err := w.ownKey(id, o.Epoch.String())
	if err != nil {
		return nil, err
	}
	var out []md.Candidate
	for _, l := range o.Legs {
		if err := w.legNow(ctx, l.Dev, l.NAA); err != nil {
			return nil, err
		}
		if err := w.heldNow(ctx, l.Dev, own); err != nil {
			return nil, err
		}
		c := md.Candidate{Slot: l.Slot, Dev: l.Dev}
		switch s := w.supers.get(ctx, l.Dev); {
		case s.Err == nil:
			c.Super = &s.Super
		case !errors.Is(s.Err, md.ErrNoSuper) && !errors.Is(s.Err, md.ErrDamaged):
			return nil, s.Err
		}
		out = append(out, c)
	}
	return out, nil
}

// nowhere makes sure that the array does not run.
func (w *Worker) nowhere(id events.ArrayID) error {
	all, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.UUID == string(id) {
			return fmt.Errorf("bring up array %s: %w: it runs as %s", id, errChanged, a.Name)
		}
	}
	return nil
}

// own puts the owner device over an array that runs.
func (w *Worker) own(id events.ArrayID, name string, o order) error {
	all, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Name != name {
			continue
		}
		if a.Sectors < o.Sectors {
			return workers.Permanent(fmt.Errorf("own array %s: it has %d sectors, %d are wanted", id, a.Sectors, o.Sectors))
		}
		return w.Mapper.Create(ownerName(id), ownerUUID(id, o.Epoch), []dm.Target{dm.Linear(0, o.Sectors, a.DevNo, 0)})
	}
	return fmt.Errorf("own array %s: %w", id, errNoDevice)
}
