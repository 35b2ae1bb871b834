package commands

import (
	"container/heap"
	"sort"
	"time"

	"cloudengine/events"
)

// Operation is an accepted intent that is not over.
type Operation struct {
	ID       events.IntentID
	Object   events.Ref
	Verb     string
	Deadline time.Time
}

// How long operations may take before they time out. A time-out ends an operation, never a grant.
const (
	startTimeout    = 10 * time.Minute
	stopTimeout     = 10 * time.Minute
	powerTimeout    = 5 * time.Minute
	shutdownDefault = 2 * time.Minute
)

// startOperation opens the operation of this command.
func (d *decision) startOperation(object events.Ref, limit time.Duration) {
	d.add(events.KindOperation, string(d.c.Intent), events.OperationStarted{Object: object, Verb: d.c.Verb, Deadline: d.now.Add(limit).UTC()})
}

// finish ends the open operations on an object that one of the verbs started.
func (d *decision) finish(object events.Ref, end events.Payload, verbs ...string) {
	for _, op := range d.s.openOperations(object) {
		for _, v := range verbs {
			if op.Verb == v {
				d.endOperation(op.ID, end)
			}
		}
	}
}

// endOperation ends one, unless this decision did so already.
func (d *decision) endOperation(id events.IntentID, end events.Payload) {
	ref := events.Ref{Kind: events.KindOperation, ID: string(id)}
	if _, done := d.bumped[ref]; !done {
		d.add(events.KindOperation, string(id), end)
	}
}

func (s *State) openOperations(object events.Ref) []*Operation {
	var ids []events.IntentID
	switch object.Kind {
	case events.KindVM:
		if vm, ok := s.vms[events.VMID(object.ID)]; ok {
			ids = vm.ops
		}
	case events.KindMachine:
		if m, ok := s.machines[events.MachineID(object.ID)]; ok {
			ids = m.ops
		}
	case events.KindArray:
		if a, ok := s.storage.arrays[events.ArrayID(object.ID)]; ok {
			ids = a.ops
		}
	case events.KindVolume:
		if v, ok := s.storage.volumes[events.VolumeID(object.ID)]; ok {
			ids = v.ops
		}
	}
	out := make([]*Operation, 0, len(ids))
	for _, id := range ids {
		out = append(out, s.ops[id])
	}
	return out
}

// OperationOpen says whether an operation is still running: the power worker asks before it acts.
func (s *State) OperationOpen(id events.IntentID) bool {
	_, ok := s.ops[id]
	return ok
}

// ExpireOperation ends an operation whose deadline has passed.
type ExpireOperation struct {
	Operation events.IntentID `json:"operation"`
}

func (a ExpireOperation) check() *Rejection { return nil }

func decideExpireOperation(d *decision, a ExpireOperation) error {
	op, ok := d.s.ops[a.Operation]
	if !ok || d.now.Before(op.Deadline) {
		return nil
	}
	d.endOperation(op.ID, events.OperationTimedOut{})
	return nil
}

func (s *State) foldOperation(e events.Event) {
	id := events.IntentID(e.Aggregate.ID)
	if data, ok := e.Data.(events.OperationStarted); ok {
		s.ops[id] = &Operation{ID: id, Object: data.Object, Verb: data.Verb, Deadline: data.Deadline}
		s.linkOperation(data.Object, func(ids []events.IntentID) []events.IntentID { return append(ids, id) })
		heap.Push(&s.due, deadline{at: data.Deadline, operation: id})
		return
	}
	op, ok := s.ops[id]
	if !ok {
		return
	}
	delete(s.ops, id)
	delete(s.versions, e.Aggregate) // an operation that is over has no more events
	s.linkOperation(op.Object, func(ids []events.IntentID) []events.IntentID {
		out := ids[:0:0]
		for _, o := range ids {
			if o != id {
				out = append(out, o)
			}
		}
		return out
	})
}

func (s *State) linkOperation(object events.Ref, change func([]events.IntentID) []events.IntentID) {
	switch object.Kind {
	case events.KindVM:
		if vm, ok := s.vms[events.VMID(object.ID)]; ok {
			vm.ops = change(vm.ops)
		}
	case events.KindMachine:
		if m, ok := s.machines[events.MachineID(object.ID)]; ok {
			m.ops = change(m.ops)
		}
	case events.KindArray:
		if a, ok := s.storage.arrays[events.ArrayID(object.ID)]; ok {
			a.ops = change(a.ops)
		}
	case events.KindVolume:
		if v, ok := s.storage.volumes[events.VolumeID(object.ID)]; ok {
			v.ops = change(v.ops)
		}
	}
}

// deadline is a time at which something is to be decided, if it still applies then.
type deadline struct {
	at        time.Time
	operation events.IntentID // operation.expire
	vm        events.VMID     // vm.expire_shutdown, for this epoch
	epoch     events.Epoch
	array     events.ArrayID // array.check_due, if it is due at this time still
}

type deadlines []deadline

func (h deadlines) Len() int           { return len(h) }
func (h deadlines) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h deadlines) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop serve container/heap.
func (h *deadlines) Push(x any) { *h = append(*h, x.(deadline)) }

// Pop removes the last.
func (h *deadlines) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func (s *State) applies(x deadline) bool {
	if x.operation != "" {
		_, ok := s.ops[x.operation]
		return ok
	}
	if x.array != "" {
		a, ok := s.storage.arrays[x.array]
		if !ok {
			return false
		}
		at, ok := s.checkDue(a)
		return ok && at.Equal(x.at)
	}
	vm, ok := s.vms[x.vm]
	return ok && vm.Grant != nil && vm.Grant.Epoch == x.epoch && vm.Grant.Ending == events.StopShutdown
}

func (s *State) trimDeadlines() {
	for len(s.due) > 0 && !s.applies(s.due[0]) {
		heap.Pop(&s.due)
	}
}

// NextDeadline is the time of the next deadline that still applies.
func (s *State) NextDeadline() (time.Time, bool) {
	s.trimDeadlines()
	if len(s.due) == 0 {
		return time.Time{}, false
	}
	return s.due[0].at, true
}

// Due gives the commands of the deadlines that have passed, earliest first. It gives them again until they are decided.
func (s *State) Due(now time.Time) []Command {
	s.trimDeadlines()
	var due []deadline
	for _, x := range s.due {
		if !x.at.After(now) && s.applies(x) {
			due = append(due, x)
		}
	}
	sort.Slice(due, func(i, j int) bool { return due[i].at.Before(due[j].at) })
	out := make([]Command, 0, len(due))
	for _, x := range due {
		out = append(out, x.command())
	}
	return out
}

func (x deadline) command() Command {
	c := Command{Actor: ActorDeadline}
	if x.operation != "" {
		c.Kind, c.Verb = events.KindOperation, "expire"
		c.Args = mustArgs(ExpireOperation{x.operation})
		c.Intent = events.FreeFormID(ActorDeadline, "operation\x00"+string(x.operation))
		return c
	}
	if x.array != "" {
		c.Kind, c.Verb = events.KindArray, "check_due"
		c.Args = mustArgs(CheckDue{x.array, x.at.UTC()})
		c.Intent = events.FreeFormID(ActorDeadline, "check\x00"+string(x.array)+"\x00"+x.at.UTC().Format(time.RFC3339Nano))
		return c
	}
	c.Kind, c.Verb = events.KindVM, "expire_shutdown"
	c.Args = mustArgs(ExpireShutdown{x.vm, x.epoch})
	c.Intent = events.FreeFormID(ActorDeadline, "shutdown\x00"+string(x.vm)+"\x00"+x.epoch.String())
	return c
}
