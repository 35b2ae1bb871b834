package projections

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cloudengine/events"
)

// How far an operation is.
const (
	OperationRunning  = "running"
	OperationDone     = "done"
	OperationFailed   = "failed"
	OperationTimedOut = "timed_out"
	OperationRefused  = "refused"
	OperationNothing  = "nothing"
)

// Operation is a row of operations: one intent of a user or a reaction that was decided, and what became of it.
type Operation struct {
	ID          string          `json:"id"`
	Intent      string          `json:"intent"`
	Actor       string          `json:"actor"`
	Account     *string         `json:"account"`
	Kind        string          `json:"kind"`
	Verb        string          `json:"verb"`
	Object      *string         `json:"object"`
	ObjectName  *string         `json:"object_name"`
	State       string          `json:"state"`
	Outcome     string          `json:"outcome"`
	Code        *string         `json:"code"`
	Guard       *string         `json:"guard"`
	Message     *string         `json:"message"`
	Reason      *string         `json:"reason"`
	Cause       *string         `json:"cause"`
	Correlation *string         `json:"correlation"`
	Override    json.RawMessage `json:"override_guards"`
	Number      uint64          `json:"number"`
	StartedAt   time.Time       `json:"started_at"`
	Deadline    *time.Time      `json:"deadline"`
	EndedAt     *time.Time      `json:"ended_at"`
	ChangedBy   uint64          `json:"changed_by"`
	ChangedAt   time.Time       `json:"changed_at"`
}

var operationTable = newTable[Operation]("operations")

var operations = &Model{
	Kind: events.KindOperation, Table: operationTable, Scope: ScopeOwnOrActor, Named: "intent", event: operationEvent,
	Reads: []string{"operation.started.v1", "operation.done.v1", "operation.failed.v1", "operation.timed_out.v1"},
}

// isOperation: what users and reactions ask for is an operation; reports of machines and of our own components are not.
func isOperation(r *events.Recorded) bool {
	switch {
	case strings.HasPrefix(r.Actor, "machine:"):
		return false
	case strings.HasPrefix(r.Actor, "system:"):
		return r.Actor == "system:reaction"
	}
	return true
}

// decided makes the operation's row. The key of an intent is (actor, id): should a second actor have used the same id, the row of the
// one that runs has the id, and the other gets one of its own.
func decided(f *fold) error {
	r := f.rec
	o := newOperation(r, f.now())
	if err := o.belongsTo(f); err != nil {
		return err
	}
	first, err := lookup[Operation](f, operationTable, o.ID)
	if err != nil {
		return err
	}
	if first != nil && first.Actor == r.Actor {
		return fmt.Errorf("add operation %s: %s asked for it before, in decision %d", o.ID, r.Actor, first.Number)
	}
	if first != nil && !starts(r) {
		o.ID = otherID(r.Actor, o.ID)
	} else if first != nil {
		first.ID = otherID(first.Actor, o.ID)
		f.put(operationTable, first.ID, first)
	}
	f.put(operationTable, o.ID, o)
	return nil
}

func newOperation(r *events.Recorded, now time.Time) *Operation {
	correlation := known(r.Correlation)
	if strings.HasPrefix(r.Actor, "system:") { // a reaction carries on the word of who caused it, who may be of another account than the VM
		correlation = nil
	}
	o := &Operation{ID: string(r.Intent), Intent: string(r.Intent), Actor: r.Actor, Kind: string(r.Kind), Verb: r.Verb, Outcome: string(r.Outcome.Status),
		Code: known(r.Outcome.Code), Guard: known(r.Outcome.Guard), Message: known(r.Outcome.Message), Reason: known(r.Reason), Cause: known(r.Cause),
		Correlation: correlation, Override: asJSON(r.Override), Number: r.Number, StartedAt: now}
	o.Object, o.ObjectName = operationObject(r)
	switch {
	case r.Outcome.Status == events.Refused:
		o.State = OperationRefused
	case r.Outcome.Status == events.Nothing:
		o.State = OperationNothing
	case starts(r):
		o.State = OperationRunning
		return o
	default:
		o.State = OperationDone
	}
	o.EndedAt = &now
	return o
}

// starts says whether what the decision began goes on.
func starts(r *events.Recorded) bool {
	for _, e := range r.Events {
		if _, ok := e.Data.(events.OperationStarted); ok && e.Aggregate.ID == string(r.Intent) {
			return true
		}
	}
	return false
}

func otherID(actor, id string) string { return string(events.FreeFormID(actor, "again "+id)) }

// aims are the arguments of intents that name objects.
type aims struct {
	Account  string `json:"account"`
	User     string `json:"user"`
	Template string `json:"template"`
	Machine  string `json:"machine"`
	Host     string `json:"host"`
	VM       string `json:"vm"`
	Name     string `json:"name"`

	Bootimage  string `json:"bootimage"`
	Discovered string `json:"discovered"`
}

func (a *aims) of(k events.Kind) string {
	switch k {
	case events.KindAccount:
		return a.Account
	case events.KindUser:
		return a.User
	case events.KindTemplate:
		return a.Template
	case events.KindMachine:
		return a.Machine
	case events.KindHost:
		return a.Host
	case events.KindVM:
		return a.VM
	case events.KindBootimage:
		return a.Bootimage
	case events.KindDiscovered:
		return a.Discovered
	}
	return ""
}

// operationObject tells which object the intent was about, and its name if the intent said it.
func operationObject(r *events.Recorded) (id, name *string) {
	var args aims
	_ = json.Unmarshal(r.Args, &args) // arguments of another shape name no object
	if id = known(args.of(r.Kind)); id == nil {
		for _, e := range r.Events {
			if e.Aggregate.Kind == r.Kind {
				id = known(e.Aggregate.ID)
				break
			}
		}
	}
	if name = known(args.Name); name == nil && r.Expect != nil {
		name = known(r.Expect.Name)
	}
	return id, name
}

// belongsTo finds the account of the object. What was refused is seen by who asked, and not by the owner of what he asked about.
func (o *Operation) belongsTo(f *fold) error {
	if o.State == OperationRefused || o.Object == nil {
		return nil
	}
	for _, e := range f.rec.Events {
		switch d := e.Data.(type) {
		case events.VMCreated:
			o.Account = known(string(d.Account))
			return nil
		case events.TemplateCreated:
			o.Account = known(string(d.Account))
			return nil
		}
	}
	switch events.Kind(o.Kind) {
	case events.KindAccount:
		o.Account = o.Object
	case events.KindVM:
		v, err := lookup[VM](f, vmTable, *o.Object)
		if err != nil || v == nil {
			return err
		}
		o.Account, o.ObjectName = &v.Account, &v.Name
	case events.KindTemplate:
		t, err := lookup[Template](f, templateTable, *o.Object)
		if err != nil || t == nil {
			return err
		}
		o.Account = t.Account
	}
	return nil
}

func operationEvent(f *fold, e events.Event) error {
	return change(f, operationTable, e.Aggregate.ID, func(o *Operation) {
		now := f.now()
		switch d := e.Data.(type) {
		case events.OperationStarted:
			deadline := d.Deadline.UTC().Truncate(time.Microsecond)
			o.State, o.Deadline, o.EndedAt = OperationRunning, &deadline, nil
			if o.Object == nil {
				o.Object = known(d.Object.ID)
			}
			return
		case events.OperationDone:
			o.State, o.Message = OperationDone, known(d.Message)
		case events.OperationFailed:
			o.State, o.Message = OperationFailed, known(d.Message)
		case events.OperationTimedOut:
			o.State = OperationTimedOut
		}
		o.EndedAt = &now
	})
}
