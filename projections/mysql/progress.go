package mysql

import "time"

// Phase is what a build is at.
type Phase int

// The phases, in order.
const (
	PhaseFold    Phase = iota // the log is read and folded in memory
	PhaseLoad                 // the rows are loaded
	PhaseCatchUp              // what was decided meanwhile is applied
	PhaseSwap                 // the new tables take the place of the old ones
	PhaseDone
)

var phaseNames = []string{"fold", "load", "catch up", "swap", "done"}

// String gives the phase's name.
func (p Phase) String() string { return phaseNames[p] }

// Progress says how far a build is.
type Progress struct {
	Phase     Phase
	Decisions uint64        // that are in it
	Head      uint64        // number of decisions that were there when it began
	Loaded    uint64        // rows
	Rows      uint64        // rows to load; 0: not known yet
	Took      time.Duration // so far
	Rate      float64       // decisions, or while loading rows, per second in this phase
	Left      time.Duration // until it is done, as it seems; 0: not known
}

// usualRows is how many rows a second are loaded, for an estimate before the first was.
const usualRows = 60_000

func (x *build) enter(p Phase) {
	x.inPhase.Store(int64(p))
	x.since.Store(time.Now().UnixNano())
}

// progress may be asked for by any goroutine.
func (x *build) progress() Progress {
	now := time.Now()
	p := Progress{Phase: Phase(x.inPhase.Load()), Decisions: x.folded.Load(), Head: x.goal.Load(), Loaded: x.loaded.Load(), Rows: x.toLoad.Load(), Took: now.Sub(x.began)}
	seconds := now.Sub(time.Unix(0, x.since.Load())).Seconds()
	if seconds <= 0 {
		return p
	}
	switch p.Phase {
	case PhaseFold:
		p.Rate = float64(p.Decisions) / seconds
		if p.Rate > 0 && p.Head > p.Decisions {
			p.Left = duration(float64(p.Head-p.Decisions)/p.Rate + float64(p.Head)/usualRows)
		}
	case PhaseLoad:
		p.Rate = float64(p.Loaded) / seconds
		if p.Rate > 0 && p.Rows > p.Loaded {
			p.Left = duration(float64(p.Rows-p.Loaded) / p.Rate)
		}
	}
	return p
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
