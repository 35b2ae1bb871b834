package history

import "cloudengine/events"

// Scope decides what of the log someone may see. It is shown the log from its first decision on, because what belongs to an account is
// said where it is made.
type Scope struct {
	all     bool
	actor   string
	account events.AccountID
	own     map[events.Ref]bool // objects of the account, and its operations
}

// Everything is the scope of a user who belongs to no account.
func Everything() *Scope { return &Scope{all: true} }

// Within is the scope of a user who belongs to an account.
func Within(actor string, account events.AccountID) *Scope {
	return &Scope{actor: actor, account: account, own: map[events.Ref]bool{{Kind: events.KindAccount, ID: string(account)}: true}}
}

// WithinFrom is Within for someone who reads on from the middle of the log: own are the objects that belong to the account there, and the
// operations that go on, of these objects or asked for by the actor.
func WithinFrom(actor string, account events.AccountID, own []events.Ref) *Scope {
	s := Within(actor, account)
	for _, r := range own {
		s.own[r] = true
	}
	return s
}

// See gives what of the next decision is shown; false: nothing. As in the read models, what was refused is seen by who asked, and by no
// one else. Of a decision about something else that changed own objects too (a host's report, a new boot), only who decided and the
// events of own objects are shown. Links between decisions may name numbers of decisions that are not shown.
func (s *Scope) See(r events.Recorded) (Entry, bool) {
	e := entryOf(r)
	if s.all {
		return e, true
	}
	s.learn(r)
	e.Events = nil
	for _, ev := range r.Events {
		if s.own[ev.Aggregate] {
			ev.Data = events.ForAccounts(ev.Data)
			e.Events = append(e.Events, ev)
		}
	}
	if !isUser(r.Actor) {
		e.Correlation = "" // a reaction has that of the decision that caused it, which may be another's
	}
	switch {
	case r.Actor == s.actor:
	case r.Outcome.Status == events.Refused:
		return Entry{}, false
	case s.aimed(r), len(e.Of(events.Ref{Kind: r.Kind, ID: string(r.Intent)})) > 0:
	case len(e.Events) > 0:
		e.Args, e.Expect, e.Override, e.Reason, e.Correlation = nil, nil, nil, "", ""
		e.Outcome = events.Outcome{Status: r.Outcome.Status}
		if isUser(r.Actor) {
			e.Cause = ""
		}
		e.Withheld = true
		return e, true
	default:
		return Entry{}, false
	}
	e.Withheld = len(e.Events) < len(r.Events)
	return e, true
}

// aimed says whether a decision was asked for about an own object.
func (s *Scope) aimed(r events.Recorded) bool {
	switch r.Kind {
	case events.KindAccount, events.KindVM, events.KindTemplate, events.KindVolume, events.KindNetwork, events.KindSubnet, events.KindNIC,
		events.KindOperation: // reports of machines are long, and of none of them
		return s.own[events.Ref{Kind: r.Kind, ID: aim(r.Args, r.Kind)}]
	}
	return false
}

// learn keeps what belongs to the account.
func (s *Scope) learn(r events.Recorded) {
	for _, ev := range r.Events {
		var owner events.AccountID
		switch d := ev.Data.(type) {
		case events.VMCreated:
			owner = d.Account
		case events.TemplateCreated:
			owner = d.Account
		case events.VolumeCreated:
			owner = d.Account
		case events.NetworkCreated:
			owner = d.Account
		case events.SubnetCreated:
			owner = d.Account
		case events.NICCreated:
			owner = d.Account
		}
		if owner != "" && owner == s.account {
			s.own[ev.Aggregate] = true
		}
	}
	for _, ev := range r.Events {
		if d, ok := ev.Data.(events.OperationStarted); ok { // another's intent may have the id of one of ours that is over
			if s.own[d.Object] || r.Actor == s.actor {
				s.own[ev.Aggregate] = true
			} else {
				delete(s.own, ev.Aggregate)
			}
		}
	}
}
