package verify

import (
	"fmt"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/desired"
)

// Cloud is what the log says at one decision.
type Cloud struct {
	Rows *projections.Memory
	Docs *desired.Fold
	Now  time.Time // of the look
}

// recent is how long a VM may be starting or stopping before that explains nothing any more.
const recent = 2 * time.Minute

// row finds a row of a read model.
func row[R any](c *Cloud, kind events.Kind, id string) *R {
	got, err := c.Rows.Get(projections.ByKind(kind).Table, id)
	if err != nil || got == nil { // in memory nothing fails
		return nil
	}
	return got.(*R)
}

// rows gives all rows of a read model, in the order of their ids.
func rows[R any](c *Cloud, kind events.Kind) []*R {
	all := c.Rows.Rows(projections.ByKind(kind).Table)
	out := make([]*R, len(all))
	for i, r := range all {
		out[i] = r.(*R)
	}
	return out
}

// Machines lists the machines with the role host, which are asked live.
func (c *Cloud) Machines() []events.MachineID {
	var out []events.MachineID
	for _, h := range rows[projections.Host](c, events.KindHost) {
		out = append(out, events.MachineID(h.ID))
	}
	return out
}

// host names a host.
func (c *Cloud) host(id string) string {
	if m := row[projections.Machine](c, events.KindMachine, id); m != nil {
		return m.Name
	}
	return id
}

// vm names a VM, with its account.
func (c *Cloud) vm(id string) string {
	v := row[projections.VM](c, events.KindVM, id)
	if v == nil {
		return id
	}
	if v.AccountName == nil {
		return v.Name
	}
	return *v.AccountName + "/" + v.Name
}

// object names what a document is about.
func (c *Cloud) object(kind events.Kind, id string) string {
	if v := row[projections.VM](c, events.KindVM, id); v != nil {
		return c.vm(id)
	}
	return string(kind) + " " + id
}

// Overdue lists the operations that should have ended (I6: every intent ends).
func (c *Cloud) Overdue() []Finding {
	var out List
	for _, o := range rows[projections.Operation](c, events.KindOperation) {
		if o.State != projections.OperationRunning || o.Deadline == nil || c.Now.Sub(*o.Deadline) < recent {
			continue
		}
		out.Add(Finding{Section: Log, Severity: Wrong, Check: "operation_overdue", Kind: "operation", ID: o.ID, Name: o.Kind + "." + o.Verb + " " + o.ID,
			What: "I6: it runs on after its deadline", Want: "ended by " + o.Deadline.Format(time.RFC3339), Have: o.State,
			Next: "deadlines are decided by the active server: look at its log, and at \"cloudengine log status\""})
	}
	return out.All
}

// operations gives the operation that is under way for each object that has one.
func (c *Cloud) operations() map[string]*projections.Operation {
	out := map[string]*projections.Operation{}
	for _, o := range rows[projections.Operation](c, events.KindOperation) {
		if o.State == projections.OperationRunning && o.Object != nil {
			out[*o.Object] = o
		}
	}
	return out
}

func underWay(o *projections.Operation) string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("operation %s.%s %s is under way", o.Kind, o.Verb, o.ID)
}
