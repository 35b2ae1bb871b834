package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/reserve"
)

// lockTimeout bounds the reservation of one leg: some eight commands.
const lockTimeout = 5 * time.Second

// Lock is what a leg says of its reservation. It says so also to who cannot read it.
type Lock struct {
	reserve.Seen
	Err error // reserve.ErrUnsupported, or why it is not known
}

// standing is how a leg is reserved, for the owner under a document's epoch.
type standing int

const (
	lockUnknown standing = iota // it does not say
	lockOurs
	lockFree  // nobody's, or of owners before
	lockTaken // a later owner's, or somebody's who is none of ours
	lockNone  // it knows no reservations
)

// refused says that a read failed because of a reservation: the disk is well.
func refused(err error) bool { return errors.Is(err, unix.EBADE) }

// standing says how a leg, or a disk that follows one, is reserved, and of one that is taken by whom.
func (v view) standing(l legView) (standing, error) {
	switch {
	case l.lun == nil || v.noKey != nil:
		return lockUnknown, nil
	case errors.Is(l.lock.Err, reserve.ErrUnsupported):
		return lockNone, nil
	case l.lock.Err != nil:
		return lockUnknown, l.lock.Err
	}
	if err := reserve.Judge(v.key, l.lock.Seen); err != nil {
		return lockTaken, err
	}
	if !l.lock.Held(v.key) || refused(l.super.Err) { // an older session of ours may hold it
		return lockFree, nil
	}
	return lockOurs, nil
}

func (v view) ours(l legView) bool {
	s, _ := v.standing(l)
	return s == lockOurs
}

// unlocked says of a member that it is not reserved any more, though nobody else has it: its target has begun anew.
func (v view) unlocked(dev string) bool {
	l := v.leg(dev)
	if l == nil {
		return false
	}
	s, _ := v.standing(*l)
	return s == lockFree || s == lockNone
}

// robs says why what a leg says means that the array is another's, or nothing. A conflict means that too: it is a lost lock, not a dead disk.
func robs(own reserve.Key, lock Lock, read error, member bool) string {
	if lock.Err != nil {
		if member && refused(read) {
			return "it answers that somebody else has reserved it"
		}
		return ""
	}
	switch err := reserve.Judge(own, lock.Seen); {
	case err != nil && (member || errors.Is(err, reserve.ErrNewer)):
		return err.Error()
	case member && lock.Holder != 0 && lock.Holder != own:
		return "it is reserved with key " + lock.Holder.String()
	}
	return ""
}

// robbed says which leg means that the array is another's, and why, or nothing.
func (v view) robbed() string {
	for _, l := range v.disks() {
		if l.lun == nil {
			continue
		}
		member := false
		for _, a := range v.arrays {
			m := a.Of(l.lun.Dev)
			member = member || m != nil && !m.Is("faulty")
		}
		if why := robs(v.key, l.lock, l.super.Err, member); why != "" {
			return fmt.Sprintf("leg %d on %s: %s", l.Slot, l.At.Machine, why)
		}
	}
	return ""
}

// robbedMember is robbed for an array whose document has no opinion: by what was assembled, under the epoch of the owner device.
func (p *planner) robbedMember() string {
	own, err := reserve.KeyOf(p.v.id, p.v.epoch(), p.seen.Boot)
	if err != nil {
		return ""
	}
	for _, a := range p.v.arrays {
		for _, m := range a.Members {
			if why := robs(own, p.seen.Locks[m.Dev], p.seen.Supers[m.Dev].Err, true); why != "" && !m.Is("faulty") {
				return fmt.Sprintf("%s: %s", m.Dev, why)
			}
		}
	}
	return ""
}

// locks reserves what may come into the array, and removes keys that owners before have left. It says whether there is a leg of which it is not
// known yet that this fails.
func (p *planner) locks() (hopeful bool) {
	for i, l := range p.v.disks() {
		if f := i - len(p.v.legs); l.lun == nil || l.lun.State != "" && l.lun.State != "running" || f >= 0 && p.v.wish.Replacements[f].Want == desired.Absent {
			continue
		}
		s, _ := p.v.standing(l)
		member := len(p.v.arrays) == 1 && p.v.arrays[0].Of(l.lun.Dev) != nil
		if s == lockFree && !member || s == lockOurs && !l.lock.Alone(p.v.key) {
			hopeful = hopeful || p.seen.Tried[l.NAA] == ""
			p.do(stepLock, "it is not ours alone", "dev", l.lun.Dev, "naa", l.NAA, "epoch", p.v.wish.Epoch.String())
		}
	}
	return hopeful
}

// unlockedWhy says why a leg that is there is not ours.
func (p *planner) unlockedWhy(l legView) string {
	s, err := p.v.standing(l)
	switch {
	case s == lockNone:
		return reserve.ErrUnsupported.Error() + ", and is not used without"
	case err != nil:
		return err.Error()
	case p.seen.Tried[l.NAA] != "":
		return p.seen.Tried[l.NAA]
	}
	return "it is not reserved yet"
}

// planKeys takes back the reservations of this boot that no array here has a use for: hosts of an array that went elsewhere need not wait for
// that, for its owner preempts them.
func planKeys(wishes []Wish, seen Observed) []workers.Plan {
	var plans []workers.Plan
	for _, l := range seen.LUNs {
		k := seen.key(l)
		if k == 0 || seen.uses(l, k, wishes) {
			continue
		}
		plans = append(plans, workers.Plan{Object: events.Ref{Kind: kindLock, ID: l.NAA}, Steps: []workers.Step{{Kind: stepUnlock, Target: l.NAA,
			Why: "no array here has it as a leg", Params: map[string]string{"dev": l.Dev, "naa": l.NAA, "key": strconv.FormatUint(uint64(k), 16)}}}})
	}
	return plans
}

// key gives the key of this boot that is registered with a disk, or 0. Another boot may look like this one: then the disk refuses us.
func (o Observed) key(l LUN) reserve.Key {
	if lock := o.Locks[l.Dev]; lock.Err == nil && !refused(o.Supers[l.Dev].Err) {
		for _, k := range lock.Keys {
			if k.By(o.Boot) {
				return k
			}
		}
	}
	return 0
}

// uses says whether an array that runs, that is being given up, or that a document is about, has a use for a disk.
func (o Observed) uses(l LUN, k reserve.Key, wishes []Wish) bool {
	for _, a := range o.MD {
		if a.Of(l.Dev) != nil {
			return true
		}
	}
	for _, w := range wishes {
		switch {
		case !k.Of(w.Array.Array) || w.ends():
		case !w.active() || w.Wrong != "":
			return true
		default:
			for _, d := range w.disks() {
				if d.NAA == l.NAA {
					return true
				}
			}
		}
	}
	for _, id := range o.ids(wishes) {
		if k.Of(id) && !o.view(id, nil).givenUp() {
			return true
		}
	}
	return false
}

// at is a leg as reserve.Take has it.
type at struct {
	i   Initiator
	dev string
}

func (a at) Reservation(ctx context.Context) (reserve.Seen, error) {
	return a.i.Reservation(ctx, a.dev)
}

func (a at) Reserve(ctx context.Context, o reserve.Out) error {
	return a.i.Reserve(ctx, a.dev, o)
}

// ownKey gives the key of this boot under the epoch of a step.
func (w *Worker) ownKey(id events.ArrayID, epoch string) (reserve.Key, error) {
	e, err := events.ParseEpoch(epoch)
	if err != nil {
		return 0, workers.Permanent(err)
	}
	k, err := reserve.KeyOf(id, e, w.Boot)
	if err != nil {
		return 0, workers.Permanent(err)
	}
	return k, nil
}

// lock reserves a leg. A leg that cannot be reserved keeps no other one from the array: what came of it is seen at the next look.
func (w *Worker) lock(ctx context.Context, id events.ArrayID, s workers.Step) error {
	own, err := w.ownKey(id, s.Params["epoch"])
	if err != nil {
		return err
	}
	w.session.Lock()
	defer w.session.Unlock()
	short, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	if err = w.legNow(short, s.Params["dev"], s.Params["naa"]); err == nil {
		err = reserve.Take(short, at{w.Initiator, s.Params["dev"]}, own)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.tried, s.Params["naa"]); err != nil {
		w.tried[s.Params["naa"]] = err.Error()
		w.Log.Warn("a leg is not reserved", "array", id, "disk", s.Params["dev"], "err", err)
	}
	return ctx.Err()
}

// unlock takes our key back.
func (w *Worker) unlock(ctx context.Context, s workers.Step) error {
	k, err := strconv.ParseUint(s.Params["key"], 16, 64)
	if err != nil {
		return workers.Permanent(fmt.Errorf("read key: %w", err))
	}
	w.session.Lock()
	defer w.session.Unlock()
	if err := w.legNow(ctx, s.Params["dev"], s.Params["naa"]); err != nil {
		return err
	}
	arrays, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return err
	}
	for _, a := range arrays { // it may have come into one since this was planned, under the same epoch and so with the same key
		if a.Of(s.Params["dev"]) != nil {
			return fmt.Errorf("take back the reservation of %s: %w: it is a member of %s", s.Params["dev"], errChanged, a.Name)
		}
	}
	return reserve.Drop(ctx, at{w.Initiator, s.Params["dev"]}, reserve.Key(k))
}

// heldNow checks that a leg that is about to come into md is ours, and that nobody later has registered.
func (w *Worker) heldNow(ctx context.Context, dev string, own reserve.Key) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	seen, err := w.Initiator.Reservation(ctx, dev)
	if err == nil {
		err = reserve.Judge(own, seen)
	}
	if err == nil && !seen.Held(own) {
		err = errChanged
	}
	if err != nil {
		return fmt.Errorf("use %s as a leg: its reservation: %w", dev, err)
	}
	return nil
}
