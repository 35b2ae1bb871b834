package proxy

import (
	"cloudengine/events/desired"
)

// Restless says that an array is being brought up or given up, or is not whole, or that a storage node does not answer: what becomes better by
// itself nothing tells of. Of an array that serves whole, Run hears of each change.
func (w *Worker) Restless(docs []desired.Document, seen Observed) bool {
	w.init()
	for _, s := range seen.Sessions {
		if !s.Live {
			return true
		}
	}
	for _, l := range seen.LUNs {
		if l.State != "" && l.State != "running" || seen.Supers[l.Dev].Err != nil || seen.Locks[l.Dev].Err != nil {
			return true
		}
	}
	for _, x := range Decode(docs, w.Boot, w.Name) {
		v := seen.view(x.Array.Array, &x)
		switch {
		case x.Wrong != "":
			return true
		case !x.active():
			if len(v.arrays) > 0 || v.own != nil {
				return true
			}
		case len(v.arrays) != 1 || v.own == nil || v.record == nil || !v.arrays[0].whole():
			return true
		}
	}
	return false
}

// whole says that an array serves with all its legs, and that nothing is copied or compared.
func (a MD) whole() bool {
	return a.Serves() && a.Degraded == 0 && len(a.Members) == a.RaidDisks && (a.SyncAction == "" || a.SyncAction == "idle")
}
