package alerts

import (
	"context"
	"fmt"
	"time"

	"cloudengine/events"
)

// Level is what a measure says now.
type Level struct {
	Rule     string
	Object   events.Ref
	Bad      bool // between good and bad it stays what it was
	Good     bool
	Severity Severity
	Message  string
}

// Measure asks how it is. It must be quick; an error means that it is not known, and changes nothing.
type Measure func(ctx context.Context) ([]Level, error)

// Watch asks the measures again and again until ctx ends, and writes what they say into the book.
func (b *Book) Watch(ctx context.Context, every time.Duration, measures ...Measure) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for _, m := range measures {
			levels, err := m(ctx)
			if err != nil && ctx.Err() == nil {
				b.log.Warn("a measure for alerts is not known", "error", err)
			}
			for _, l := range levels {
				if err := b.level(ctx, l); err != nil && ctx.Err() == nil {
					b.log.Warn("an alert could not be stored, it is tried again", "error", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (b *Book) level(ctx context.Context, l Level) error {
	if l.Bad == l.Good {
		return nil
	}
	return b.Take(ctx, Change{Rule: l.Rule, Object: l.Object, Raise: l.Bad, Severity: l.Severity, Message: l.Message, Time: b.now().UTC()})
}

// Lag finds out whether a follower of the log has not reached for long what the log had. It is for one goroutine at a time.
type Lag struct {
	Limit  time.Duration
	target uint64
	since  time.Time
}

// Behind says whether it is behind for longer than the limit, given how far both are now.
func (l *Lag) Behind(log, follower uint64, now time.Time) bool {
	if follower >= l.target || l.since.IsZero() {
		l.target, l.since = log, now
	}
	return follower < l.target && now.Sub(l.since) >= l.Limit
}

// LagLevel makes the level of a lag.
func LagLevel(name string, behind bool, log, follower uint64) Level {
	return Level{
		Rule: RuleLag, Object: events.Ref{Kind: "part", ID: name}, Bad: behind, Good: !behind, Severity: Warning,
		Message: fmt.Sprintf("%s is at decision %d, the log at %d, and it does not catch up", name, follower, log),
	}
}

// Shares of a disk.
const (
	diskWarn  = 0.80
	diskFull  = 0.90 // users' intents are refused
	diskAgain = 0.03 // below by this much it is well again
)

// DiskLevels makes the levels of a disk that is used to a share.
func DiskLevels(name string, used float64) []Level {
	level := func(kind events.Kind, at float64, s Severity, more string) Level {
		return Level{
			Rule: RuleDisk, Object: events.Ref{Kind: kind, ID: name}, Bad: used > at, Good: used < at-diskAgain, Severity: s,
			Message: fmt.Sprintf("the disk is %.0f %% full%s", 100*used, more),
		}
	}
	return []Level{level("disk", diskWarn, Warning, ""), level("full_disk", diskFull, Critical, ": users' intents are refused, reports go on")}
}

// ParkedLevel makes the level of things that are parked.
func ParkedLevel(name string, n int, what string) Level {
	return Level{
		Rule: RuleParked, Object: events.Ref{Kind: "part", ID: name}, Bad: n > 0, Good: n == 0, Severity: Critical,
		Message: fmt.Sprintf("%d %s", n, what),
	}
}
