// Package alerts tells people of the loud events of the log: what should not happen, and what somebody has overridden.
//
// It writes one structured log line per alert and hands it to the sinks it was given. It may tell of an event twice. It decides
// nothing, and what is an alert follows from the event alone.
package alerts

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"cloudengine/events"
)

// Severity orders alerts.
type Severity string

// The severities.
const (
	Warning  Severity = "warning"  // something is not as it should be; nothing is in danger
	Critical Severity = "critical" // a human has to look now
)

// Alert is one loud event. Number and Index name it for ever; a sink that has it already drops it.
type Alert struct {
	Number   uint64
	Index    int
	Time     time.Time // of the decision's block
	Severity Severity
	Type     string // of the event
	Object   events.Ref
	Message  string // for people
	Actor    string
	Reason   string
}

// Sink takes alerts. It is called again with the same alert after an error.
type Sink interface {
	Raise(ctx context.Context, a Alert) error
}

// Subjects filters FEED on the types that may be alerts.
const Subjects = "feed.log.*.log_opened_v1,feed.machine.*.machine_silent_v1,feed.machine.*.machine_contradicted_v1," +
	"feed.machine.*.machine_bmc_checked_v1,feed.host.*.host_orphan_found_v1,feed.vm.*.vm_stale_domain_found_v1," +
	"feed.vm.*.vm_became_unknown_v1,feed.vm.*.vm_grant_ended_v1"

// Handler gives a handler for FEED that logs alerts and raises them on every sink.
func Handler(log *slog.Logger, sinks ...Sink) func(context.Context, events.FeedMessage) error {
	return func(ctx context.Context, m events.FeedMessage) error {
		a, loud := Of(m)
		if !loud {
			return nil
		}
		level := slog.LevelWarn
		if a.Severity == Critical {
			level = slog.LevelError
		}
		log.Log(ctx, level, "alert", "number", a.Number, "index", a.Index, "time", a.Time, "severity", a.Severity, "type", a.Type,
			"object", a.Object.String(), "message", a.Message, "actor", a.Actor, "reason", a.Reason)
		for _, s := range sinks {
			if err := s.Raise(ctx, a); err != nil {
				return fmt.Errorf("raise alert %d.%d: %w", a.Number, a.Index, err)
			}
		}
		return nil
	}
}

// Of says whether an event is an alert, and which.
func Of(m events.FeedMessage) (Alert, bool) {
	severity, text := judge(m.Event.Data)
	if text == "" {
		return Alert{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, m.Time)
	if err != nil {
		at = time.Time{} // the event matters more than its time
	}
	return Alert{
		Number: m.Number, Index: m.Index, Time: at, Severity: severity, Type: m.Event.Type, Object: m.Event.Aggregate,
		Message: text, Actor: m.Actor, Reason: m.Reason,
	}, true
}

// judge gives the text of a loud event, and none for any other.
func judge(p events.Payload) (Severity, string) {
	switch d := p.(type) {
	case events.LogOpened:
		if d.Cause != "created" {
			return Critical, fmt.Sprintf("the log was opened again (%s) and has term %d now: nothing is granted on a machine that has not reported completely", d.Cause, d.Term)
		}
	case events.MachineSilent:
		return Warning, "the machine is silent; what runs on it is not known"
	case events.MachineContradicted:
		return Critical, "the machine contradicts the log (" + d.Code + "): " + d.Message
	case events.MachineBMCChecked:
		if !d.Healthy {
			return Warning, "the machine's BMC does not answer rightly; its power cannot be proven: " + d.Detail
		}
	case events.HostOrphanFound:
		return Warning, fmt.Sprintf("the host runs a domain that is not ours: %s (%s, %s)", d.Domain.Name, d.Domain.UUID, d.Domain.State)
	case events.VMStaleDomainFound:
		return Critical, fmt.Sprintf("host %s has a domain of this VM under the old epoch %s (%s); it is paused and destroyed", d.Host, d.Epoch, d.State)
	case events.VMBecameUnknown:
		return Warning, fmt.Sprintf("nobody knows what this VM does: host %s is silent", d.Host)
	case events.VMGrantEnded:
		if d.Proof == events.ProofOverride {
			return Critical, fmt.Sprintf("a human's word, not a proof, ended the grant %s on host %s", d.Epoch, d.Host)
		}
	}
	return "", ""
}
