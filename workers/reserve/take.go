package reserve

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Seen is what a unit says of itself. Its two answers are of one generation, or it is read again.
type Seen struct {
	Keys   []Key // of all initiators, also twice
	Holder Key   // 0: nobody
	Type   Type
}

// Why a unit is not taken, for errors.Is.
var (
	// ErrNewer says that an owner of a later epoch, or another one of the same, has registered: this one is over.
	ErrNewer = errors.New("a later owner has reserved it")
	// ErrForeign says that a key is not one of ours: somebody else uses the unit.
	ErrForeign = errors.New("somebody else has reserved it")
	// ErrConflict is what Do of a Unit says when the command was refused by a reservation, or by the lack of a registration.
	ErrConflict = errors.New("reservation conflict")
	// ErrUnsupported says that the unit knows no persistent reservations.
	ErrUnsupported = errors.New("it has no persistent reservations")
	// ErrUnsettled says that others changed the unit all the time.
	ErrUnsettled = errors.New("its reservation does not settle")
)

// Judge says whether the owner with a key may take a unit: nobody has registered there but owners of earlier epochs of its array, and owners of
// arrays to which the unit belonged before. Errors: ErrNewer, ErrForeign.
func Judge(own Key, seen Seen) error {
	for _, k := range append(seen.Keys[:len(seen.Keys):len(seen.Keys)], seen.Holder) {
		switch {
		case k == own || k == 0:
		case !k.Ours():
			return fmt.Errorf("%w: key %s", ErrForeign, k)
		case k.sameArray(own) && k.Epoch().Compare(own.Epoch()) >= 0:
			return fmt.Errorf("%w: key %s", ErrNewer, k)
		}
	}
	return nil
}

// Held says whether the owner with a key holds the unit exclusively. Whether it does so in this session the unit does not tell; a session that
// does not hold it cannot read.
func (s Seen) Held(own Key) bool {
	return s.Holder == own && s.Type == ExclusiveAccess && slices.Contains(s.Keys, own)
}

// Alone says whether nobody else has registered, nor this owner over an older session.
func (s Seen) Alone(own Key) bool { return len(s.Keys) == 1 && s.Keys[0] == own }

// Done is what this initiator's commands have come to, in one attempt to take a unit.
type Done struct {
	Registered bool
	Reserved   bool // the unit has said that this session holds it
	Behind     bool // the unit has said that an older session of ours holds it
}

// Next gives the command that brings a unit nearer to being held by own, exclusively and with no other key; false: it is so. Errors: those of Judge. Pure.
func Next(own Key, did Done, seen Seen) (Out, bool, error) {
	if err := Judge(own, seen); err != nil {
		return Out{}, false, err
	}
	preempt := func(k Key) Out { return Out{Action: PreemptAndAbort, Type: ExclusiveAccess, Key: own, Other: k} }
	other := slices.IndexFunc(seen.Keys, func(k Key) bool { return k != own })
	switch {
	case !did.Registered:
		return Out{Action: RegisterAndIgnore, Other: own}, true, nil
	case seen.Holder != 0 && seen.Holder != own: // takes the reservation too
		return preempt(seen.Holder), true, nil
	case did.Behind || seen.Holder == own && seen.Type != ExclusiveAccess:
		return preempt(own), true, nil // ends every other session with this key
	case !did.Reserved:
		return Out{Action: Reserve, Type: ExclusiveAccess, Key: own}, true, nil
	case other >= 0:
		return preempt(seen.Keys[other]), true, nil
	case len(seen.Keys) > 1: // sessions before this one
		return preempt(own), true, nil
	case !seen.Held(own):
		return Out{}, false, ErrUnsettled
	}
	return Out{}, false, nil
}

// Unit is a disk to which commands are sent in this session.
type Unit interface {
	Reservation(ctx context.Context) (Seen, error) // or ErrUnsupported
	Reserve(ctx context.Context, o Out) error      // or ErrConflict
}

// most bounds the commands of one attempt.
const most = 24

// Take registers and reserves a unit, and removes all other keys, or says why not: nothing is sent to a unit that own may not take, and each key
// that is preempted is one that was judged, so that a later owner who comes meanwhile keeps its own. It may be cut off after any command and done
// again.
func Take(ctx context.Context, u Unit, own Key) error {
	var did Done
	for range most {
		seen, err := u.Reservation(ctx)
		if err != nil {
			return err
		}
		o, more, err := Next(own, did, seen)
		if errors.Is(err, ErrUnsettled) {
			did = Done{}
			continue
		}
		if err != nil || !more {
			return err
		}
		switch err = u.Reserve(ctx, o); {
		case err == nil:
			did = did.after(o)
		case !errors.Is(err, ErrConflict):
			return err
		case o.Action == Reserve && seen.Holder == own:
			did.Behind = true
		default: // somebody was quicker
			did = Done{}
		}
	}
	return ErrUnsettled
}

func (d Done) after(o Out) Done {
	switch o.Action {
	case RegisterAndIgnore:
		d.Registered = true
	case Reserve:
		d.Reserved = true
	case PreemptAndAbort:
		d.Behind = false
	}
	return d
}

// Drop takes this initiator's registration with a key back, and its reservation with it. No error if there is none.
func Drop(ctx context.Context, u Unit, k Key) error {
	if err := u.Reserve(ctx, Out{Action: Register, Key: k}); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}
