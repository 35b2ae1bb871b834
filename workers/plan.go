package workers

import (
	"fmt"
	"sort"
	"strings"

	"cloudengine/events"
)

// Step is one action on the machine. It is data: all choices are in it.
type Step struct {
	Kind   string            `json:"kind"`             // what to do: "create", "unpause", …
	Target string            `json:"target"`           // what to do it to
	Params map[string]string `json:"params,omitempty"` // with what
	Why    string            `json:"why"`
}

// String gives one line: kind, target, the parameters in order of their names, why.
func (s Step) String() string {
	keys := make([]string, 0, len(s.Params))
	for k := range s.Params {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s %s", s.Kind, s.Target)
	for _, k := range keys {
		fmt.Fprintf(b, " %s=%q", k, s.Params[k])
	}
	fmt.Fprintf(b, "  # %s", s.Why)
	return b.String()
}

// Plan is what is to be done for one object, in order. An empty plan is not made.
type Plan struct {
	Object     events.Ref        `json:"object"`
	Generation events.Generation `json:"generation"` // of the document that asks for it; the plan is dropped once a newer one has come
	Urgent     bool              `json:"urgent,omitempty"`
	Steps      []Step            `json:"steps"`
}

// Print writes plans as people read them, one step per line.
func Print(plans []Plan) string {
	b := &strings.Builder{}
	for _, p := range plans {
		urgent := ""
		if p.Urgent {
			urgent = ", urgent"
		}
		fmt.Fprintf(b, "%s (generation %d.%d%s)\n", p.Object, p.Generation.Term, p.Generation.Number, urgent)
		for i, s := range p.Steps {
			fmt.Fprintf(b, "  %d %s\n", i+1, s)
		}
	}
	return b.String()
}
