// Package prunit models a SCSI unit with persistent reservations, as SPC-4 says and LIO does (drivers/target/target_core_pr.c), for tests.
package prunit

import (
	"context"
	"maps"
	"slices"

	"cloudengine/workers/reserve"
)

// Unit is one disk: keys by nexus (who asks, over which session), and one holder.
type Unit struct {
	Keys   map[string]reserve.Key
	Holder string // "": nobody
	Type   reserve.Type
	None   bool // it knows no reservations
}

// Seen is what it says of itself.
func (u *Unit) Seen() (s reserve.Seen) {
	for _, n := range slices.Sorted(maps.Keys(u.Keys)) {
		s.Keys = append(s.Keys, u.Keys[n])
	}
	if u.Holder != "" {
		s.Holder, s.Type = u.Keys[u.Holder], u.Type
	}
	return s
}

// Restart is that of the target: all is forgotten.
func (u *Unit) Restart() { u.Keys, u.Holder = nil, "" }

// May says whether a nexus may read and write it. Who has registered may read under WriteExclusive; nothing here uses that.
func (u *Unit) May(nexus string) bool { return u.Holder == "" || u.Holder == nexus }

// Do does one PERSISTENT RESERVE OUT. Errors: reserve.ErrConflict, reserve.ErrUnsupported.
func (u *Unit) Do(nexus string, o reserve.Out) error {
	key, registered := u.Keys[nexus]
	switch {
	case u.None:
		return reserve.ErrUnsupported
	case o.Action != reserve.RegisterAndIgnore && (!registered || key != o.Key):
		return reserve.ErrConflict
	}
	switch o.Action {
	case reserve.RegisterAndIgnore, reserve.Register:
		u.register(nexus, o.Other)
	case reserve.Reserve:
		if u.Holder != "" && (u.Holder != nexus || u.Type != o.Type) {
			return reserve.ErrConflict
		}
		u.Holder, u.Type = nexus, o.Type
	case reserve.PreemptAndAbort:
		return u.preempt(nexus, o)
	}
	return nil
}

func (u *Unit) register(nexus string, k reserve.Key) {
	if k != 0 {
		if u.Keys == nil {
			u.Keys = map[string]reserve.Key{}
		}
		u.Keys[nexus] = k
		return
	}
	if delete(u.Keys, nexus); u.Holder == nexus {
		u.Holder = ""
	}
}

func (u *Unit) preempt(nexus string, o reserve.Out) error {
	if !slices.Contains(u.Seen().Keys, o.Other) {
		return reserve.ErrConflict
	}
	held := u.Holder != "" && u.Keys[u.Holder] == o.Other
	maps.DeleteFunc(u.Keys, func(n string, k reserve.Key) bool { return k == o.Other && (n != nexus || !held) })
	if held {
		u.Holder, u.Type = nexus, o.Type
	}
	return nil
}

// At is the unit as a nexus has it.
func (u *Unit) At(nexus string) At { return At{u, nexus} }

// At is a reserve.Unit.
type At struct {
	*Unit
	Nexus string
}

// Reservation reads it.
func (a At) Reservation(context.Context) (reserve.Seen, error) {
	if a.None {
		return reserve.Seen{}, reserve.ErrUnsupported
	}
	return a.Seen(), nil
}

// Reserve changes it.
func (a At) Reserve(_ context.Context, o reserve.Out) error { return a.Do(a.Nexus, o) }
