package alerts

import (
	"fmt"
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

// The rules. Names are permanent: they are in keys of alerts.
const (
	RuleTerm          = "term"          // the log was restored or reopened
	RuleSilent        = "silent"        // a machine is silent
	RuleContradiction = "contradiction" // a machine contradicts the log
	RuleBMC           = "bmc"           // a BMC does not answer rightly
	RuleOrphan        = "orphan"        // a host runs a domain that is not ours
	RuleStaleDomain   = "stale_domain"  // a domain under an old epoch
	RuleUnknown       = "unknown"       // nobody knows what a VM does
	RuleOverride      = "override"      // a human's word ended a grant
	RuleLag           = "lag"           // what follows from the log is behind it
	RuleParked        = "parked"        // events that could not be applied
	RuleDisk          = "disk"          // a disk fills up
	RuleStopped       = "stopped"       // nothing is decided any more
	RuleMismatch      = "mismatch"      // copies of an array differ
)

// Change is what an event, or a measure, says about one alert: it is raised, or it is over.
type Change struct {
	Rule   string
	Object events.Ref
	Detail string // tells alerts of one rule about one object apart

	Raise    bool
	Stays    bool // raised by what has happened, not by what is so: it is open until somebody acknowledges it
	Severity Severity
	Message  string // for people
	Actor    string
	Reason   string

	Number uint64 // place of the event; 0: a measure
	Index  int
	Time   time.Time
}

// Key names what the alert is about: of one key, one alert is open at most.
func (c Change) Key() string {
	key := c.Rule + "/" + c.Object.String()
	if c.Detail != "" {
		key += "/" + c.Detail
	}
	return key
}

// Subjects filters FEED on the types that may raise or end alerts.
const Subjects = "feed.log.*.log_opened_v1,feed.machine.*.machine_silent_v1,feed.machine.*.machine_returned_v1," +
	"feed.machine.*.machine_enrolled_v1,feed.machine.*.machine_removed_v1,feed.machine.*.machine_contradicted_v1," +
	"feed.machine.*.machine_bmc_checked_v1,feed.host.*.host_orphan_found_v1,feed.host.*.host_orphan_gone_v1," +
	"feed.vm.*.vm_stale_domain_found_v1,feed.vm.*.vm_stale_domain_ended_v1,feed.vm.*.vm_became_unknown_v1," +
	"feed.vm.*.vm_became_known_v1,feed.vm.*.vm_grant_ended_v1,feed.vm.*.vm_deleted_v1," +
	"feed.array.*.array_checked_v1,feed.array.*.array_deleted_v1"

// Of says what an event raises and ends. It follows from the event alone.
func Of(m events.FeedMessage) []Change {
	at, err := time.Parse(time.RFC3339Nano, m.Time)
	if err != nil {
		at = time.Time{} // the event matters more than its time
	}
	list := judge(m.Event.Data)
	for i := range list {
		c := &list[i]
		c.Object, c.Actor, c.Reason, c.Number, c.Index, c.Time = m.Event.Aggregate, m.Actor, m.Reason, m.Number, m.Index, at
	}
	return list
}

func raise(rule string, s Severity, format string, a ...any) []Change {
	return []Change{{Rule: rule, Raise: true, Severity: s, Message: fmt.Sprintf(format, a...)}}
}

// happened is a raise that nothing but an acknowledgement ends.
func happened(rule, detail, format string, a ...any) []Change {
	return []Change{{Rule: rule, Detail: detail, Raise: true, Stays: true, Severity: Critical, Message: fmt.Sprintf(format, a...)}}
}

func over(why string, rules ...string) []Change {
	out := make([]Change, len(rules))
	for i, r := range rules {
		out[i] = Change{Rule: r, Message: why}
	}
	return out
}

func judge(p events.Payload) []Change {
	switch d := p.(type) {
	case events.LogOpened:
		if d.Cause != events.CauseCreated {
			return happened(RuleTerm, fmt.Sprint(d.Term), "the log was opened again (%s) and has term %d now: nothing is granted on a machine that has not reported completely", d.Cause, d.Term)
		}
	case events.HostOrphanFound:
		out := raise(RuleOrphan, Warning, "the host runs a domain that is not ours: %s (%s, %s)", d.Domain.Name, d.Domain.UUID, d.Domain.State)
		out[0].Detail = d.Domain.UUID
		return out
	case events.HostOrphanGone:
		return []Change{{Rule: RuleOrphan, Detail: d.UUID, Message: "the domain is gone, or adopted"}}
	case events.VMStaleDomainFound:
		return raise(RuleStaleDomain, Critical, "host %s has a domain of this VM under the old epoch %s (%s); it is paused and destroyed", d.Host, d.Epoch, d.State)
	case events.VMStaleDomainEnded:
		return over("the domain is gone", RuleStaleDomain)
	case events.VMBecameUnknown:
		return raise(RuleUnknown, Warning, "nobody knows what this VM does: host %s is silent", d.Host)
	case events.VMBecameKnown:
		return over("its host reports again", RuleUnknown)
	case events.VMGrantEnded:
		out := over("it is proven that it ended ("+d.Proof+")", RuleUnknown)
		if d.Proof == events.ProofOverride {
			out = append(out, happened(RuleOverride, d.Epoch.String(), "a human's word, not a proof, ended the grant %s on host %s", d.Epoch, d.Host)...)
		}
		return out
	case events.VMDeleted:
		return over("the VM was deleted", RuleUnknown, RuleStaleDomain)
	}
	return append(judgeMachine(p), judgeArray(p)...)
}

func judgeArray(p events.Payload) []Change {
	switch d := p.(type) {
	case events.ArrayChecked:
		switch {
		case d.Complete && d.Mismatches > 0:
			return raise(RuleMismatch, Critical, "a check found copies that differ, in pieces of %d sectors together: which copy is right nobody knows", d.Mismatches)
		case d.Complete:
			return over("a later check found no difference", RuleMismatch)
		}
	case events.ArrayDeleted:
		return over("the array was deleted", RuleMismatch)
	}
	return nil
}

func judgeMachine(p events.Payload) []Change {
	switch d := p.(type) {
	case events.MachineSilent:
		return raise(RuleSilent, Warning, "the machine is silent; what runs on it is not known")
	case events.MachineReturned:
		return over("the machine reports again", RuleSilent)
	case events.MachineEnrolled:
		return over("the machine has booted anew", RuleSilent)
	case events.MachineContradicted:
		return happened(RuleContradiction, d.Code, "the machine contradicts the log (%s): %s", d.Code, d.Message)
	case events.MachineBMCChecked:
		if !d.Healthy {
			return raise(RuleBMC, Warning, "the machine's BMC does not answer rightly; its power cannot be proven: %s", d.Detail)
		}
		return over("the BMC answers", RuleBMC)
	case events.MachineRemoved:
		return over("the machine was removed", RuleSilent, RuleBMC)
	}
	return nil
}
