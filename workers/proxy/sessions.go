package proxy

import (
	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// planSessions logs in to the storage nodes of arrays that are ours, and out of those that nobody here needs. Each node has a plan of its own:
// one that does not answer keeps no array from the others.
func planSessions(wishes []Wish, seen Observed) []workers.Plan {
	var plans []workers.Plan
	wanted, opinions := map[Node]bool{}, true
	for _, w := range wishes {
		if !w.active() && !w.ends() || w.Wrong != "" {
			opinions = false // what it needs is not known
		}
		if !w.active() || w.Wrong != "" || w.Transport == "" {
			continue
		}
		for _, l := range w.disks() {
			n := w.node(l)
			if wanted[n] {
				continue
			}
			wanted[n] = true
			if s := planLogin(n, wishes, seen); s != nil {
				plans = append(plans, workers.Plan{Object: sessionRef(n), Steps: []workers.Step{*s}})
			}
		}
	}
	if !opinions {
		return plans
	}
	for _, s := range seen.Sessions {
		if n := s.Node; n.Machine != "" && !wanted[n] && !needed(n, seen) && !planned(plans, n) {
			plans = append(plans, workers.Plan{Object: sessionRef(n), Steps: []workers.Step{step(stepLogout, n, "no array here has legs on it")}})
		}
	}
	return plans
}

func planned(plans []workers.Plan, n Node) bool {
	for _, p := range plans {
		if p.Object == sessionRef(n) {
			return true
		}
	}
	return false
}

// sessionRef: one object for a machine, whatever its address.
func sessionRef(n Node) events.Ref {
	return events.Ref{Kind: kindSession, ID: n.Transport + ":" + string(n.Machine)}
}

func step(kind string, n Node, why string) workers.Step {
	return workers.Step{Kind: kind, Target: string(n.Machine), Why: why, Params: map[string]string{"transport": n.Transport, "address": n.Address}}
}

// planLogin gives the step that is missing until all legs on a node are there, or nil.
func planLogin(n Node, wishes []Wish, seen Observed) *workers.Step {
	var session *Session
	for i, s := range seen.Sessions {
		if s.Node == n {
			session = &seen.Sessions[i]
		}
	}
	if session == nil {
		s := step(stepLogin, n, "legs are on it")
		return &s
	}
	if !session.Live {
		return nil // the kernel connects again by itself
	}
	for _, w := range wishes {
		for _, l := range w.disks() {
			if w.Want == desired.Active && w.Wrong == "" && w.node(l) == n && seen.lun(l) == nil {
				s := step(stepRescan, n, "leg "+string(l.Disk)+" is not there")
				return &s
			}
		}
	}
	return nil
}

// needed says whether an md array that runs has members on a node, or a reservation of ours is to be taken back there first.
func needed(n Node, seen Observed) bool {
	for _, l := range seen.LUNs {
		if l.Node.Machine != n.Machine {
			continue
		}
		if seen.key(l) != 0 {
			return true
		}
		for _, a := range seen.MD {
			if a.Of(l.Dev) != nil {
				return true
			}
		}
	}
	return false
}
