package proxy

import (
	"encoding/json"
	"fmt"
	"sort"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Wish is what one document wants of one array.
type Wish struct {
	desired.Array
	Generation events.Generation
	Transport  string   // of its fabric; empty: not known
	Initiators []string // names of To, sorted
	Wrong      string   // why nothing can be done about it
}

// Namer gives the name of a peer as an initiator. Pure.
type Namer func(transport string, p desired.Peer) (string, error)

// Decode reads the documents about arrays. One of another boot is ignored; one that cannot be read has no opinion, and says why.
func Decode(docs []desired.Document, boot string, name Namer) []Wish {
	transports := map[events.FabricID]string{}
	for _, d := range docs {
		var f desired.Fabric
		if d.Kind == desired.KindFabric && d.Boot == boot && json.Unmarshal(d.Body, &f) == nil && f.Want == desired.There {
			transports[f.Fabric] = f.Transport
		}
	}
	var out []Wish
	for _, d := range docs {
		if d.Kind != desired.KindArray || d.Boot != boot {
			continue
		}
		w := Wish{Generation: d.Generation}
		if err := json.Unmarshal(d.Body, &w.Array); err != nil || string(w.Array.Array) != d.ID {
			out = append(out, Wish{Array: desired.Array{Array: events.ArrayID(d.ID)}, Generation: d.Generation, Wrong: "its document cannot be read"})
			continue
		}
		w.Transport = transports[w.Fabric]
		w.Wrong = w.complaint()
		for _, p := range w.To {
			n, err := name(w.Transport, p)
			if err != nil {
				w.Wrong = fmt.Sprintf("machine %s cannot be named: %v", p.Machine, err)
				continue
			}
			w.Initiators = append(w.Initiators, n)
		}
		sort.Strings(w.Initiators)
		out = append(out, w)
	}
	return out
}

// complaint says what is wrong with an active document, or nothing.
func (w *Wish) complaint() string {
	if w.Want != desired.Active {
		return ""
	}
	n := len(w.Legs)
	switch {
	case len(w.Array.Array) != 36:
		return "its id is no UUID"
	case w.Copies < 2 || n == 0 || n%w.Copies != 0:
		return fmt.Sprintf("%d legs cannot hold %d copies", n, w.Copies)
	case w.ChunkKiB <= 0 || w.ExtentMiB <= 0 || w.StartMiB <= 0 || w.Sectors == 0 || w.Epoch.IsZero():
		return "its document is not complete"
	}
	sort.Slice(w.Legs, func(i, j int) bool { return w.Legs[i].Slot < w.Legs[j].Slot })
	seen := map[string]bool{}
	for i, l := range w.Legs {
		if l.Slot != i || l.NAA == "" || seen[l.NAA] {
			return "its legs are not one for each slot"
		}
		seen[l.NAA] = true
	}
	for _, r := range w.Replacements {
		if r.Slot < 0 || r.Slot >= n || r.NAA == "" || seen[r.NAA] {
			return "a disk that follows a leg has no slot of its own, or is a leg"
		}
		seen[r.NAA] = true
	}
	return ""
}

func (w Wish) object() events.Ref {
	return events.Ref{Kind: desired.KindArray, ID: string(w.Array.Array)}
}

// active says whether this machine shall own the array.
func (w Wish) active() bool { return w.Want == desired.Active }

// ends says whether this machine shall not own it.
func (w Wish) ends() bool { return w.Want == desired.Standby || w.Want == desired.Absent }

// node gives the storage node of a leg.
func (w Wish) node(l desired.Leg) Node { return Node{w.Transport, l.At.Machine, l.At.Address} }

// legKiB gives how much of each leg the array needs: its size over the sets, rounded up to chunks.
func (w Wish) legKiB() int64 {
	sets := int64(len(w.Legs) / w.Copies)
	per := (int64(w.Sectors) + sets - 1) / sets
	kib, chunk := (per+1)/2, int64(w.ChunkKiB)
	return (kib + chunk - 1) / chunk * chunk
}

// extents gives how many the array has.
func (w Wish) extents() int { return (int(w.Sectors/2048) - w.StartMiB) / w.ExtentMiB }
