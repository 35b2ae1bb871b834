package history

import (
	"maps"
	"slices"
	"strings"

	"cloudengine/events"
)

// Change is one field of an object before and after an event. Old is empty when there was no value and "?" when it cannot be told from
// the events that were seen; New is empty when there is none any more.
type Change struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// effect says what an event does to the fields of its object: its data become the fields of a group, whose other fields end.
type effect struct {
	group  string            // empty: fields of the object itself
	keep   bool              // what the event does not say stays
	clears []string          // groups that end
	sets   map[string]string // fields that the event sets without saying their values
}

var deleted = effect{keep: true, sets: map[string]string{"deleted": "yes"}}

// effects of events; one that is not listed sets the fields of a group that is called as the event.
var effects = map[string]effect{
	"account.created.v1":      {keep: true},
	"account.deleted.v1":      deleted,
	"template.created.v1":     {keep: true},
	"template.deleted.v1":     deleted,
	"machine.added.v1":        {keep: true},
	"machine.removed.v1":      deleted,
	"machine.power_wanted.v1": {group: "power_wanted"},
	"machine.enrolled.v1":     {group: "boot", sets: map[string]string{"silent": "no"}},
	"machine.silent.v1":       {group: "heard", sets: map[string]string{"silent": "yes"}},
	"machine.returned.v1":     {group: "heard", sets: map[string]string{"silent": "no"}},
	"machine.drain_began.v1":  {keep: true, sets: map[string]string{"draining": "yes"}},
	"machine.drain_ended.v1":  {keep: true, sets: map[string]string{"draining": "no"}},
	"host.registered.v1":      {keep: true, sets: map[string]string{"ready": "no"}},
	"host.ready.v1":           {group: "reported", sets: map[string]string{"ready": "yes"}},
	"host.cordoned.v1":        {keep: true, sets: map[string]string{"cordoned": "yes"}},
	"host.uncordoned.v1":      {keep: true, sets: map[string]string{"cordoned": "no"}},
	"vm.created.v1":           {keep: true},
	"vm.deleted.v1":           deleted,
	"vm.run_wanted.v1":        {group: "wanted"},
	"vm.run_granted.v1":       {group: "grant", clears: []string{"domain", "ended", "step_failed"}},
	"vm.grant_ended.v1":       {group: "ended", clears: []string{"grant", "domain"}, sets: map[string]string{"unknown": "no"}},
	"vm.domain_observed.v1":   {group: "domain"},
	"vm.restart_wanted.v1":    {keep: true},
	"vm.became_unknown.v1":    {keep: true, sets: map[string]string{"unknown": "yes"}},
	"vm.became_known.v1":      {keep: true, sets: map[string]string{"unknown": "no"}},
	"operation.started.v1":    {keep: true, sets: map[string]string{"state": "running"}},
	"operation.done.v1":       {keep: true, sets: map[string]string{"state": "done"}},
	"operation.failed.v1":     {keep: true, sets: map[string]string{"state": "failed"}},
	"operation.timed_out.v1":  {keep: true, sets: map[string]string{"state": "timed_out"}},
}

func effectOf(name string) effect {
	if e, ok := effects[name]; ok {
		return e
	}
	_, name, _ = strings.Cut(name, ".")
	group, _, _ := strings.Cut(name, ".")
	return effect{group: group}
}

// Differ tells what each event of one object changed.
type Differ struct {
	now   map[string]string
	order []string // of the fields, as they were first seen
	begun bool
	whole bool // the object's first event was seen
}

// NewDiffer begins before the object's first event, or somewhere in the middle: then what was before is "?".
func NewDiffer() *Differ { return &Differ{now: map[string]string{}} }

// Add gives what the object's next event changed, in the order in which fields were first seen.
func (d *Differ) Add(e events.Event) []Change {
	if !d.begun {
		d.begun, d.whole = true, e.Version == 1
	}
	x := effectOf(e.Type)
	next := map[string]string{}
	set := func(name, text string) {
		next[name] = text
		if _, known := d.now[name]; !known {
			d.order = append(d.order, name)
			d.now[name] = ""
			if !d.whole {
				d.now[name] = "?"
			}
		}
	}
	for _, f := range Fields(e.Data) {
		name := f.Name
		if !essential(name) {
			continue
		}
		if x.group != "" {
			name = x.group + "." + name
		}
		set(name, f.Text)
	}
	for _, name := range slices.Sorted(maps.Keys(x.sets)) {
		set(name, x.sets[name])
	}
	for name := range d.now {
		group, _, _ := strings.Cut(name, ".")
		if _, said := next[name]; !said && (!x.keep && group == x.group || slices.Contains(x.clears, group)) && strings.Contains(name, ".") {
			next[name] = ""
		}
	}
	return d.apply(next)
}

func (d *Differ) apply(next map[string]string) []Change {
	var out []Change
	for _, name := range d.order {
		if text, said := next[name]; said && text != d.now[name] {
			out = append(out, Change{name, d.now[name], text})
			d.now[name] = text
		}
	}
	return out
}
