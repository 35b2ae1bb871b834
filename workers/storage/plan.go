package storage

import (
	"slices"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/lio"
)

// StepRemember notes which document an export follows from now on. It comes before anything that the document allows.
const StepRemember = "remember_export"

// KindPort is the kind of objects that no document is about: ports that are to go.
const KindPort events.Kind = "port"

// PlanExports says what brings what is exported to what documents ask for: one plan for each disk. Where somebody is to be shut out, that
// is all of the plan, and it is urgent; the rest follows from the next look. It is pure and total.
func PlanExports(docs []desired.Document, seen Observed) []workers.Plan {
	w := decode(docs)
	want, _ := wanted(w, seen)
	p := planner{wishes: w, seen: seen, plans: map[string]*workers.Plan{}, ports: map[string]workers.Step{}}
	for id, e := range w.exports {
		p.remember(id, e)
	}
	for _, s := range lio.Plan(want, seen.Exports) {
		p.add(s)
	}
	for id, e := range w.exports {
		p.wipe(id, e)
	}
	return p.sorted()
}

type planner struct {
	wishes wishes
	seen   Observed
	plans  map[string]*workers.Plan // by object
	ports  map[string]workers.Step  // that make a port
}

func (p *planner) plan(o events.Ref) *workers.Plan {
	x, ok := p.plans[o.String()]
	if !ok {
		x = &workers.Plan{Object: o}
		if e, ok := p.wishes.exports[events.DiskID(o.ID)]; ok && o.Kind == desired.KindExport {
			x.Generation = e.generation
		}
		p.plans[o.String()] = x
	}
	return x
}

func (p *planner) remember(id events.DiskID, e export) {
	r := Record{Array: e.Array, Epoch: e.Epoch}
	if e.Want == "" || p.seen.Records[id] == r || p.seen.lower(id, e) {
		return
	}
	x := p.plan(events.Ref{Kind: desired.KindExport, ID: string(id)})
	x.Steps = append(x.Steps, workers.Step{Kind: StepRemember, Target: string(id), Why: "a later document must not be taken for an earlier one",
		Params: map[string]string{"array": string(r.Array), "epoch": r.Epoch.String()}})
}

// add puts a step into the plan of its disk. A port is made by the plan of each disk that needs it: it may be done twice, and plans wait
// for nobody.
func (p *planner) add(s workers.Step) {
	port := s.Params[lio.ParamTransport] + "/" + s.Params[lio.ParamPort]
	switch s.Kind {
	case lio.StepPort:
		p.ports[port] = s
		return
	case lio.StepUnport:
		if !p.empty(s) {
			return // its disks' plans come first
		}
		x := p.plan(events.Ref{Kind: KindPort, ID: s.Target})
		x.Steps = append(x.Steps, s)
		return
	}
	x := p.plan(events.Ref{Kind: desired.KindExport, ID: s.Params[lio.ParamBackstore]})
	if make, ok := p.ports[port]; ok && s.Kind == lio.StepGrant {
		if !slices.ContainsFunc(x.Steps, func(h workers.Step) bool { return h.Kind == lio.StepPort && h.Target == make.Target }) {
			x.Steps = append(x.Steps, make)
		}
	}
	x.Steps = append(x.Steps, s)
}

func (p *planner) empty(s workers.Step) bool {
	for _, h := range p.seen.Exports.Ports {
		if h.Name == s.Params[lio.ParamPort] && h.Transport == s.Params[lio.ParamTransport] {
			return len(h.Grants) == 0
		}
	}
	return true
}

func (p *planner) sorted() []workers.Plan {
	out := make([]workers.Plan, 0, len(p.plans))
	for _, x := range p.plans {
		last := -1
		for i, s := range x.Steps {
			if s.Kind == lio.StepRevoke {
				last = i
			}
		}
		if last >= 0 {
			x.Urgent, x.Steps = true, x.Steps[:last+1]
		}
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b workers.Plan) int {
		switch as, bs := a.Object.String(), b.Object.String(); {
		case as < bs:
			return -1
		case as > bs:
			return 1
		}
		return 0
	})
	return out
}
