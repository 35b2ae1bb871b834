package gateway

import (
	"encoding/json"
	"strconv"
	"strings"

	"cloudengine/events/desired"
	"cloudengine/workers"
)

// The kinds of steps. The target is the network's identifier; "wish" is the document.
const (
	stepMake   = "make"   // namespace and devices
	stepRules  = "rules"  // all of them
	stepYield  = "yield"  // "down": whether the port in the network shall be
	stepSync   = "sync"   // conntrackd, with the configuration in "file"
	stepElect  = "elect"  // keepalived, with the configuration in "file"
	stepReload = "reload" // its configuration: "file"
	stepRemove = "remove" // both programs, and the namespace with all that is in it
	stepRefuse = "refuse" // "reason"
)

// Observed is what is there, in one look.
type Observed struct {
	Gates map[int]State // by VNI: those that have a namespace
	Nets  map[int]bool  // VNIs of the networks that stand
}

// State is what is there of a gateway.
type State struct {
	Up       bool   // its devices are there and up
	Port     bool   // its port in the network is up
	Underlay bool   // the card of the underlay has a link
	Rules    string // digest of its rules
	Sync     string // configuration that conntrackd was started with; "": it does not run
	Election string // configuration that keepalived was last told; "": it does not run
	Role     string // as keepalived last said; "": it has not
}

// PlanGateways says what is to be done for each wish. dir gives the directory of a gateway, notify what keepalived calls.
func PlanGateways(wishes []Wish, seen Observed, dir func(vni int) string, notify string) []workers.Plan {
	var out []workers.Plan
	for _, w := range wishes {
		have, there := seen.Gates[w.VNI]
		var steps []workers.Step
		switch err := w.check(); {
		case w.Want == desired.Absent:
			if there {
				steps = append(steps, w.step(stepRemove, "the network is not connected here any more"))
			}
		case err != nil:
			steps = append(steps, w.step(stepRefuse, "it can never be", "reason", err.Error()))
		case seen.Nets[w.VNI]: // else its network comes first
			steps = w.bring(have, there, dir(w.VNI), notify)
		}
		if len(steps) > 0 {
			out = append(out, workers.Plan{Object: w.object(), Generation: w.Generation, Steps: steps})
		}
	}
	return out
}

// bring orders what is missing: who elects starts last, when all that it may switch to is there.
func (w Wish) bring(have State, there bool, dir, notify string) []workers.Step {
	var steps []workers.Step
	fresh := !there || !have.Up
	if fresh {
		steps = append(steps, w.step(stepMake, "this machine is one of its gateways"))
	}
	if fresh || have.Rules != digestOf(w.rules()) {
		steps = append(steps, w.step(stepRules, "what is translated and let through"))
	}
	if !fresh && have.Port != have.Underlay {
		steps = append(steps, w.step(stepYield, "the underlay's card has, or has not, a link", "down", strconv.FormatBool(!have.Underlay)))
	}
	if want := w.conntrackd(dir); have.Sync != strings.TrimSpace(want) {
		steps = append(steps, w.step(stepSync, "connections are told to the other one", "file", want))
	}
	switch want := w.keepalived(dir, notify); {
	case have.Election == "":
		steps = append(steps, w.step(stepElect, "one of the two is active", "file", want))
	case have.Election != strings.TrimSpace(want):
		steps = append(steps, w.step(stepReload, "other addresses", "file", want))
	}
	return steps
}

func (w Wish) step(kind, why string, params ...string) workers.Step {
	body, _ := json.Marshal(w.Gateway) // it was read from JSON
	s := workers.Step{Kind: kind, Target: strconv.Itoa(w.VNI), Why: why, Params: map[string]string{"wish": string(body)}}
	for i := 0; i < len(params); i += 2 {
		s.Params[params[i]] = params[i+1]
	}
	return s
}
