package fabric

import (
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"strconv"

	"cloudengine/events/desired"
	"cloudengine/workers"
)

// The kinds of steps. The target of stepLoad is a transport, of stepRefuse a MAC, of all others a device; those have the card's MAC as "mac".
const (
	stepLoad      = "load"      // kernel modules of a transport
	stepMTU       = "mtu"       // "mtu"
	stepRemove    = "remove"    // "address"
	stepAdd       = "add"       // "address"
	stepUp        = "up"        // the card
	stepAddRDMA   = "add_rdma"  // a soft RDMA device "rdma" on the card
	stepDropRDMA  = "drop_rdma" // soft RDMA device "rdma"
	stepRefuse    = "refuse"    // say why nothing is done: "reason", "permanent"
	softDevPrefix = "rxe_"      // of the names of soft RDMA devices
)

var (
	errBootCard = errors.New("this card is the boot network's")
	errNoCard   = errors.New("no card has this address")
	errTwoCards = errors.New("more than one card has this address")
	errPort     = errors.New("the card is a port of a bridge or a bond, and a fabric's card must not be one")
	errTwoWants = errors.New("two fabrics want this card")
)

// PlanFabrics says what must be done so that what is seen becomes what is wanted. Pure, total, deterministic; one plan per document, sorted.
func PlanFabrics(wishes []Wish, seen Observed) []workers.Plan {
	var plans []workers.Plan
	for _, w := range wishes {
		var steps []workers.Step
		if w.Want == desired.There {
			steps = w.attach(wishes, seen)
		} else {
			steps = w.detach(wishes, seen)
		}
		if len(steps) > 0 {
			plans = append(plans, workers.Plan{Object: w.object(), Generation: w.Generation, Steps: steps})
		}
	}
	sort.SliceStable(plans, func(i, j int) bool { return plans[i].Object.String() < plans[j].Object.String() })
	return plans
}

// card finds the card that a wish is about, or says why it must not be touched.
func (w Wish) card(wishes []Wish, seen Observed) (Card, error) {
	if w.MAC == seen.Boot {
		return Card{}, errBootCard
	}
	for _, o := range wishes {
		if o.ID != w.ID && o.MAC == w.MAC && o.Want == desired.There && w.Want == desired.There {
			return Card{}, errTwoWants
		}
	}
	var found []Card
	for _, c := range seen.Cards {
		if c.MAC == w.MAC {
			found = append(found, c)
		}
	}
	switch {
	case len(found) == 0:
		return Card{}, errNoCard
	case len(found) > 1:
		return Card{}, errTwoCards
	case found[0].Master != "":
		return Card{}, fmt.Errorf("%w (%s is one of %s)", errPort, found[0].Device, found[0].Master)
	}
	return found[0], nil
}

func refuse(w Wish, err error, permanent bool) []workers.Step {
	return []workers.Step{{Kind: stepRefuse, Target: w.MAC, Why: "the document cannot be followed",
		Params: map[string]string{"reason": err.Error(), "permanent": strconv.FormatBool(permanent)}}}
}

func (w Wish) attach(wishes []Wish, seen Observed) []workers.Step {
	want, err := w.check()
	if err != nil {
		return refuse(w, err, true)
	}
	c, err := w.card(wishes, seen)
	if err != nil {
		return refuse(w, err, errors.Is(err, errBootCard)) // a card can come, a port can leave its bridge, a document can change
	}
	var steps []workers.Step
	if !seen.Loaded[w.Transport] {
		steps = append(steps, workers.Step{Kind: stepLoad, Target: w.Transport, Why: "the fabric's transport"})
	}
	steps = append(steps, c.dropRDMA(w.Transport != SRP, "the fabric's transport is "+w.Transport)...)
	if w.MTU > 0 && c.MTU != w.MTU {
		steps = append(steps, c.step(stepMTU, "mtu", strconv.Itoa(w.MTU), "the fabric's, not "+strconv.Itoa(c.MTU)))
	}
	steps = append(steps, c.readdress(want)...)
	if !c.Up {
		steps = append(steps, c.step(stepUp, "", "", "a fabric's card is up"))
	}
	if w.Transport == SRP && c.RDMA == "" {
		steps = append(steps, c.step(stepAddRDMA, "rdma", softDevPrefix+c.Device, "the card has no RDMA of its own"))
	}
	return steps
}

// readdress removes what is not wanted first: with the first address of a subnet the kernel removes the others of it too.
func (c Card) readdress(want netip.Prefix) []workers.Step {
	var steps []workers.Step
	for _, a := range c.Addresses {
		if a != want {
			steps = append(steps, c.step(stepRemove, "address", a.String(), "not the fabric's"))
		}
	}
	if len(steps) > 0 || !c.has(want) {
		steps = append(steps, c.step(stepAdd, "address", want.String(), "the fabric's"))
	}
	return steps
}

func (c Card) dropRDMA(drop bool, why string) []workers.Step {
	if !drop || !c.Soft || c.RDMA == "" {
		return nil
	}
	return []workers.Step{c.step(stepDropRDMA, "rdma", c.RDMA, why)}
}

// detach takes away what attach has made. A card that is not there, or not ours to touch, or another document's now, needs nothing.
func (w Wish) detach(wishes []Wish, seen Observed) []workers.Step {
	c, err := w.card(wishes, seen)
	if err != nil {
		return nil
	}
	for _, o := range wishes {
		if o.ID != w.ID && o.MAC == w.MAC && o.Want == desired.There {
			return nil
		}
	}
	steps := c.dropRDMA(true, "the machine leaves the fabric")
	if p, err := netip.ParsePrefix(w.Address); err == nil && c.has(p) {
		steps = append(steps, c.step(stepRemove, "address", p.String(), "the machine leaves the fabric"))
	}
	return steps
}

func (c Card) step(kind, param, value, why string) workers.Step {
	s := workers.Step{Kind: kind, Target: c.Device, Params: map[string]string{"mac": c.MAC}, Why: why}
	if param != "" {
		s.Params[param] = value
	}
	return s
}
