package commands

import (
	"sort"

	"cloudengine/events"
)

// maxReactions bounds how many waiting VMs one decision sets in motion; the rest follow when the next room comes free.
const maxReactions = 64

// reactions lists what follows from a folded decision: VMs that are wanted running and have no grant are placed again when a proof
// ended their grant, or when room came free. Pure: the ids come from the decision's number.
func (s *State) reactions(r events.Recorded) []Command {
	ended, room := map[events.VMID]bool{}, false
	for _, e := range r.Events {
		switch e.Data.(type) {
		case events.VMGrantEnded:
			ended[events.VMID(e.Aggregate.ID)] = true
			room = true
		case events.HostReady, events.HostUncordoned, events.HostOrphanGone, events.VMStaleDomainEnded, events.MachineReturned:
			room = true
		}
	}
	if !room || len(s.waiting) == 0 {
		return nil
	}
	var place []events.VMID
	for id := range s.waiting {
		place = append(place, id)
	}
	sort.Slice(place, func(i, j int) bool { // first those whose grant just ended; then the longest known
		if ended[place[i]] != ended[place[j]] {
			return ended[place[i]]
		}
		return place[i] < place[j]
	})
	if len(place) > maxReactions {
		place = place[:maxReactions]
	}
	out := make([]Command, 0, len(place))
	for i, id := range place {
		out = append(out, Command{
			Intent: events.ReactionID(r.Number, i), Actor: ActorReaction, Kind: events.KindVM, Verb: "place",
			Args: mustArgs(VMRef{id}), Cause: numberText(r.Number), Correlation: r.Correlation,
		})
	}
	return out
}
