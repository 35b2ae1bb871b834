package projections

import (
	"errors"
	"fmt"

	"cloudengine/events"
)

// Model is one read model: its table and the events that it reads.
type Model struct {
	Kind  events.Kind // under which its rows are asked for
	Table *Table
	Scope Scope
	Named string   // column with the name that people use, unique in its account; empty: none
	Reads []string // wire names of the events that change its rows
	event func(f *fold, e events.Event) error

	Private []string // columns that users of an account do not see: they tell of the platform
}

// Scope says which rows a user who belongs to an account may see.
type Scope int

// The scopes.
const (
	ScopeNone       Scope = iota // none
	ScopeOwn                     // those whose account is the user's
	ScopeOwnOrAll                // those, and those of no account, which are for every account
	ScopeSelf                    // the one whose id is the account
	ScopeOwnOrActor              // those whose account or actor is the user's
)

// The kinds of rows that are no aggregates.
const (
	KindOrphan events.Kind = "orphan"
	KindGrant  events.Kind = "grant"
)

// Models lists the read models, in the order in which an event is applied to them.
func Models() []*Model {
	return []*Model{accounts, users, secrets, bootimages, machines, discovered, hosts, orphans, templates, vms, grants,
		fabrics, members, pools, disks, arrays, volumes, networks, subnets, addresses, nics, operations, terms, servers}
}

// tables tells the table of each kind of aggregate.
var tables = func() map[events.Kind]*Table {
	out := map[events.Kind]*Table{}
	for _, m := range Models() {
		out[m.Kind] = m.Table
	}
	return out
}()

// ByKind gives the read model of a kind, or nil.
func ByKind(k events.Kind) *Model {
	for _, m := range Models() {
		if m.Kind == k {
			return m
		}
	}
	return nil
}

// readers tells the models that read an event, in order.
var readers = func() map[string][]*Model {
	out := map[string][]*Model{}
	for _, m := range Models() {
		for _, name := range m.Reads {
			out[name] = append(out[name], m)
		}
	}
	return out
}()

// Parked is an event that could not be applied, with the reason.
type Parked struct {
	Number uint64
	Index  int // of the event in its decision; -1: the decision itself
	Object events.Ref
	Type   string
	Err    error
}

// ErrParked is the reason of an event whose object was parked before.
var ErrParked = errors.New("an earlier event of this object is parked")

// Part names what can be applied or parked by itself: event Index of a decision, or with -1 the decision as an operation.
type Part struct{ Index int }

// Parts lists the parts of a decision, in order.
func Parts(r *events.Recorded) []Part {
	out := make([]Part, 0, len(r.Events)+1)
	if isOperation(r) {
		out = append(out, Part{-1})
	}
	for i := range r.Events {
		out = append(out, Part{i})
	}
	return out
}

// Object tells which object a part is about.
func (p Part) Object(r *events.Recorded) events.Ref {
	if p.Index < 0 {
		return events.Ref{Kind: events.KindOperation, ID: string(r.Intent)}
	}
	return r.Events[p.Index].Aggregate
}

// Type gives the wire name of the part's event; for the decision itself "decision".
func (p Part) Type(r *events.Recorded) string {
	if p.Index < 0 {
		return "decision"
	}
	return r.Events[p.Index].Type
}

// Park says that a part could not be applied.
func (p Part) Park(r *events.Recorded, err error) Parked {
	return Parked{r.Number, p.Index, p.Object(r), p.Type(r), err}
}

// ApplyPart applies one part to the store. An error of the store itself is returned as it is; with parked true the error is about
// the part, nothing of it was applied, and its object has to be parked.
func ApplyPart(s Store, r *events.Recorded, p Part) (parked bool, err error) {
	f := &fold{store: s, rec: r}
	if p.Index < 0 {
		err = decided(f)
	} else {
		err = applyEvent(f, r.Events[p.Index])
	}
	if err == nil {
		err = f.misfit
	}
	if err == nil {
		f.commit()
		return false, nil
	}
	var broken storeError
	if errors.As(err, &broken) {
		return false, fmt.Errorf("apply decision %d: %w", r.Number, broken.error)
	}
	return true, err
}

// ApplyAll applies all parts of a decision, in order. A part that cannot be applied, or whose object is in parked, is parked: its object is
// added to parked, and it is among what is returned. The error is the store's.
func ApplyAll(s Store, parked map[events.Ref]bool, r *events.Recorded) ([]Parked, error) {
	return applyParts(s, parked, r, Parts(r))
}

func applyParts(s Store, parked map[events.Ref]bool, r *events.Recorded, parts []Part) ([]Parked, error) {
	var stops []Parked
	for _, p := range parts {
		why := ErrParked
		if !parked[p.Object(r)] {
			park, err := ApplyPart(s, r, p)
			if err == nil {
				continue
			}
			if !park {
				return stops, err
			}
			why = err
		}
		parked[p.Object(r)] = true
		stops = append(stops, p.Park(r, why))
	}
	return stops, nil
}

func applyEvent(f *fold, e events.Event) error {
	if _, unknown := e.Data.(events.Unknown); unknown || e.Data == nil {
		return fmt.Errorf("apply %s: %w", e.Type, ErrUnknownEvent)
	}
	for _, m := range readers[e.Type] {
		if err := m.event(f, e); err != nil {
			return fmt.Errorf("apply %s to %s: %w", e.Type, m.Table.Name, err)
		}
	}
	return nil
}

// RowID names a row.
type RowID struct {
	Table *Table
	ID    string
}

// Needs appends the rows that applying a decision will most likely read, so that they can be read together beforehand.
func Needs(dst []RowID, r *events.Recorded) []RowID {
	if isOperation(r) {
		dst = append(dst, RowID{operationTable, string(r.Intent)})
		if r.Kind == events.KindVM && r.Verb != "create" {
			if id, _ := operationObject(r); id != nil {
				dst = append(dst, RowID{vmTable, *id})
			}
		}
	}
	for _, e := range r.Events {
		dst = needsOf(dst, e)
	}
	return dst
}

func needsOf(dst []RowID, e events.Event) []RowID {
	if t := tables[e.Aggregate.Kind]; t != nil && e.Version > 1 {
		dst = append(dst, RowID{t, e.Aggregate.ID})
	}
	switch d := e.Data.(type) {
	case events.VMCreated:
		dst = append(dst, RowID{accountTable, string(d.Account)})
	case events.VMRunGranted:
		dst = append(dst, RowID{hostTable, string(d.Host)})
	case events.VMGrantEnded:
		dst = append(dst, RowID{hostTable, string(d.Host)}, RowID{grantTable, grantID(e.Aggregate.ID, d.Epoch)})
	case events.VMGrantResized:
		dst = append(dst, RowID{hostTable, string(d.Host)}, RowID{grantTable, grantID(e.Aggregate.ID, d.Epoch)})
	case events.VMStaleDomainEnded:
		dst = append(dst, RowID{hostTable, string(d.Host)}, RowID{grantTable, grantID(e.Aggregate.ID, d.Epoch)})
	case events.HostOrphanFound:
		dst = append(dst, RowID{orphanTable, orphanID(e.Aggregate.ID, d.Domain.UUID)})
	case events.HostOrphanGone:
		dst = append(dst, RowID{orphanTable, orphanID(e.Aggregate.ID, d.UUID)})
	case events.MachineEnrolled, events.MachinePowerObserved, events.MachineSilent, events.MachineReturned:
		dst = append(dst, RowID{hostTable, e.Aggregate.ID})
	}
	return dst
}
