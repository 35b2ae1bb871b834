package events

import "time"

// ResyncDefaultKiB is how much an array copies or compares, in KiB per second, until an ArrayResyncSet says otherwise.
const ResyncDefaultKiB = 100 << 10

// ArrayResyncSet says how fast an array may copy to legs that are behind, and compare its copies; in the place of what was said before.
// Hosts' reads and writes go first in any case.
type ArrayResyncSet struct {
	LimitKiB int  `json:"limit_kib"` // per second; 0 = no limit
	Paused   bool `json:"paused"`    // nothing is copied or compared
}

// EventType gives the wire name.
func (ArrayResyncSet) EventType() string { return "array.resync_set.v1" }

// What an array has to copy, or does (md's words).
const (
	SyncRecover = "recover" // to a leg that is new or came back: until then its set has a copy less
	SyncResync  = "resync"  // legs are made equal: after a creation, or after an owner that was cut off while it wrote
	SyncCheck   = "check"   // copies are compared
)

// ArraySyncSeen is what the owner says it has to copy, and whether it does. Recorded when that changes; how far it is is not in it.
type ArraySyncSeen struct {
	Proxy MachineID `json:"proxy"`
	Epoch Epoch     `json:"epoch"`
	Needs string    `json:"needs"` // SyncRecover or SyncResync; empty: nothing is to be copied
	Runs  string    `json:"runs"`  // md's sync_action; empty: none
}

// EventType gives the wire name.
func (ArraySyncSeen) EventType() string { return "array.sync_seen.v1" }

// ArrayResyncHeld says whether an array waits with copying and comparing, because another one on the same storage nodes is at it.
type ArrayResyncHeld struct {
	Held   bool    `json:"held"`             // it waits
	Behind ArrayID `json:"behind,omitempty"` // that it waits for
}

// EventType gives the wire name.
func (ArrayResyncHeld) EventType() string { return "array.resync_held.v1" }

// ArrayCheckWanted says that all copies of an array are to be compared, when its storage nodes have nothing more urgent to do.
type ArrayCheckWanted struct {
	Check     IntentID `json:"check"`               // its id: the intent's
	Scheduled bool     `json:"scheduled,omitempty"` // by the pool's schedule
}

// EventType gives the wire name.
func (ArrayCheckWanted) EventType() string { return "array.check_wanted.v1" }

// ArrayCheckStarted tells the owner to do a check that is wanted. Whoever owns the array does it, from the beginning.
type ArrayCheckStarted struct {
	Check IntentID `json:"check"`
}

// EventType gives the wire name.
func (ArrayCheckStarted) EventType() string { return "array.check_started.v1" }

// ArrayChecked ends a check.
type ArrayChecked struct {
	Check      IntentID  `json:"check"`
	Proxy      MachineID `json:"proxy,omitempty"`  // that did it; empty: it was ended before it was done
	Sectors    uint64    `json:"sectors"`          // that were compared, in units of 512 bytes of the array
	Mismatches uint64    `json:"mismatches"`       // md's mismatch_cnt: sectors of the pieces whose copies differ
	Started    time.Time `json:"started,omitzero"` // when its owner was told to begin; left out: it was not
	Ended      time.Time `json:"ended"`            // when the end was decided
	Complete   bool      `json:"complete"`         // all was compared
}

// EventType gives the wire name.
func (ArrayChecked) EventType() string { return "array.checked.v1" }

// CheckEveryDefaultHours is how often arrays are checked until a PoolCheckEverySet says otherwise.
const CheckEveryDefaultHours = 720

// PoolCheckEverySet says how often the arrays of a pool are checked.
type PoolCheckEverySet struct {
	Hours int `json:"hours"` // after the end of the last check, or the creation; 0 = never by itself
}

// EventType gives the wire name.
func (PoolCheckEverySet) EventType() string { return "pool.check_every_set.v1" }
