package commands

import (
	"sort"

	"cloudengine/events"
)

// maxReactions bounds how many waiting VMs are set in motion at once. When they are decided and one of them found room, the next follow.
const maxReactions = 64

// placingRound is how far the waiting VMs were gone through.
type placingRound struct {
	last   events.VMID // the last that was set in motion: the next time begins behind it
	placed bool        // one of those that were set in motion found room
}

// reactions lists what follows from a folded decision. The ids come from the decision's number. It is a part of folding.
func (s *State) reactions(r events.Recorded) []Command {
	out := s.placeVMs(r)
	arrays := func(verb string, ids []events.ArrayID) {
		for _, id := range ids {
			if len(out) == 2*maxReactions {
				break
			}
			out = append(out, Command{
				Intent: events.ReactionID(r.Number, len(out)), Actor: ActorReaction, Kind: events.KindArray, Verb: verb,
				Args: mustArgs(ArrayRef{id}), Cause: numberText(r.Number), Correlation: r.Correlation,
			})
		}
	}
	arrays("place", s.storageReactions(r))
	arrays("take_over", s.takeOvers(r))
	for _, id := range s.drains(r) {
		if len(out) < 2*maxReactions {
			out = append(out, Command{
				Intent: events.ReactionID(r.Number, len(out)), Actor: ActorReaction, Kind: events.KindMachine, Verb: "drain_next",
				Args: mustArgs(MachineRef{id}), Cause: numberText(r.Number), Correlation: r.Correlation,
			})
		}
	}
	arrays("turn", s.syncReactions(r))
	for _, id := range s.staleGoldens(r) {
		if len(out) < 2*maxReactions {
			out = append(out, Command{
				Intent: events.ReactionID(r.Number, len(out)), Actor: ActorReaction, Kind: events.KindVolume, Verb: "drop_golden",
				Args: mustArgs(VolumeRef{id}), Cause: numberText(r.Number), Correlation: r.Correlation,
			})
		}
	}
	return out
}

// placeVMs: VMs that are wanted running and have no grant are placed again when a proof
// ended their grant, or when room came free.
func (s *State) placeVMs(r events.Recorded) []Command {
	ended, room := map[events.VMID]bool{}, false
	for _, e := range r.Events {
		switch e.Data.(type) {
		case events.VMGrantEnded:
			ended[events.VMID(e.Aggregate.ID)] = true
			room = true
		case events.HostReady, events.HostUncordoned, events.HostOrphanGone, events.VMStaleDomainEnded, events.MachineReturned, events.VMGrantResized,
			events.LogSettled, events.ArrayOwnerGranted, events.VolumeReady, events.MachinePowerObserved, events.OperationTimedOut: // the last two may end the cutting of a power
			room = true
		case events.VMRunGranted:
			s.round.placed = s.round.placed || r.Actor == ActorReaction
		}
	}
	if len(s.pending) == 0 && s.round.placed {
		room, s.round.placed = true, false
	}
	if !room || len(s.waiting) == 0 {
		return nil
	}
	var place []events.VMID
	for id := range s.waiting {
		place = append(place, id)
	}
	last := s.round.last
	sort.Slice(place, func(i, j int) bool { // first those whose grant just ended; then in turn, so that none waits for ever behind others
		a, b := place[i], place[j]
		switch {
		case ended[a] != ended[b]:
			return ended[a]
		case (a > last) != (b > last):
			return a > last
		}
		return a < b
	})
	if len(place) > maxReactions {
		place = place[:maxReactions]
	}
	s.round.last = place[len(place)-1]
	out := make([]Command, 0, len(place))
	for i, id := range place {
		out = append(out, Command{
			Intent: events.ReactionID(r.Number, i), Actor: ActorReaction, Kind: events.KindVM, Verb: "place",
			Args: mustArgs(VMRef{id}), Cause: numberText(r.Number), Correlation: r.Correlation,
		})
	}
	return out
}
