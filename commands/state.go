package commands

import (
	"time"

	"cloudengine/events"
)

// State is what deciding needs to know of the whole cloud: a fold of the log. Not safe for concurrent use.
type State struct {
	term    uint64
	cause   string    // of the term
	settled bool      // nothing of a lost part of the log has to be found out
	level   int       // of the log: events of higher ones are not written yet
	last    uint64    // number of the last decision folded
	time    time.Time // of its block

	versions map[events.Ref]uint64
	seen     seenIndex
	pending  []Command // reactions that are not decided yet, in order
	due      deadlines

	servers map[string]*Server // by name
	levels  levels

	accounts  map[events.AccountID]*Account
	users     map[events.UserID]*User
	secrets   map[string]*Secret
	templates map[events.TemplateID]*Template
	machines  map[events.MachineID]*Machine
	hosts     map[events.MachineID]*Host
	vms       map[events.VMID]*VM
	ops       map[events.IntentID]*Operation // that are not over

	images       map[string]*Bootimage // by version
	defaultImage string                // version; empty: none was set
	discovered   map[string]*Discovered
	dropped      []string // ids of discovered machines that are not recorded again, oldest first

	storage  storage
	networks networks

	names    map[string]string // scope + name → id
	keys     map[string]events.Ref
	macs     map[string]events.MachineID
	waiting  map[events.VMID]bool // wanted running, no grant
	round    placingRound
	unknowns []string // event types that this program does not know
}

// NewState is the state before the first decision.
func NewState() *State {
	return &State{
		versions:  map[events.Ref]uint64{},
		seen:      newSeenIndex(),
		servers:   map[string]*Server{},
		levels:    levels{knows: events.Level},
		accounts:  map[events.AccountID]*Account{},
		users:     map[events.UserID]*User{},
		secrets:   map[string]*Secret{},
		templates: map[events.TemplateID]*Template{},
		machines:  map[events.MachineID]*Machine{},
		hosts:     map[events.MachineID]*Host{},
		vms:       map[events.VMID]*VM{},
		ops:       map[events.IntentID]*Operation{},
		images:    map[string]*Bootimage{}, discovered: map[string]*Discovered{},
		names:   map[string]string{},
		keys:    map[string]events.Ref{},
		macs:    map[string]events.MachineID{},
		waiting: map[events.VMID]bool{},
		storage: newStorage(), networks: newNetworks(),
	}
}

// Term is the log's present term; 0 before the log was opened.
func (s *State) Term() uint64 { return s.term }

// Next is the number of the next decision.
func (s *State) Next() uint64 { return s.last + 1 }

// Time is the time of the last folded block.
func (s *State) Time() time.Time { return s.time }

// UnknownTypes lists event types in the log that this program does not know. If there are any, it must not decide.
func (s *State) UnknownTypes() []string { return s.unknowns }

// Evolve folds one stored decision. It holds no rules and cannot fail.
func (s *State) Evolve(r events.Recorded) {
	s.last, s.time = r.Number, r.Time
	s.seen.add(r)
	if r.Actor == ActorReaction {
		s.dropPending(r.Intent)
	}
	if r.Outcome.Code == events.CodeContradicts || r.Outcome.Code == events.CodeTwoMachines {
		s.foldContradiction(r)
	}
	if m, ok := s.machines[machineOfActor(r.Actor)]; ok {
		m.foldCounter(r)
		s.foldStorageCounter(m, r)
		m.spent.add(r)
	}
	for _, e := range r.Events {
		s.versions[e.Aggregate] = e.Version
		s.fold(e, r)
	}
	s.pending = append(s.pending, s.reactions(r)...)
}

// fold routes an event to its aggregate.
func (s *State) fold(e events.Event, r events.Recorded) {
	switch d := e.Data.(type) {
	case events.LogOpened, events.LogSettled, events.LogLevelRaised:
		s.foldLog(e)
	case events.ServerAnnounced, events.ServerRemoved:
		s.foldServer(e)
	case events.Unknown:
		s.unknowns = append(s.unknowns, d.Type)
	default:
		switch e.Aggregate.Kind {
		case events.KindAccount, events.KindUser, events.KindSecret:
			s.foldAccount(e, r)
		case events.KindTemplate:
			s.foldTemplate(e)
		case events.KindMachine:
			s.foldMachine(e)
		case events.KindHost:
			s.foldHost(e)
		case events.KindVM:
			s.foldVM(e, r)
		case events.KindOperation:
			s.foldOperation(e)
		case events.KindBootimage:
			s.foldBootimage(e)
		case events.KindDiscovered:
			s.foldDiscovered(e)
		case events.KindFabric:
			s.foldFabric(e)
		case events.KindDisk:
			s.foldDisk(e)
		case events.KindPool:
			s.foldPool(e)
		case events.KindArray:
			s.foldArray(e, r)
		case events.KindVolume:
			s.foldVolume(e, r)
		case events.KindNetwork:
			s.foldNetwork(e)
		case events.KindSubnet:
			s.foldSubnet(e)
		case events.KindNIC:
			s.foldNIC(e)
		}
	}
}

func (s *State) dropPending(id events.IntentID) {
	for i, c := range s.pending {
		if c.Intent == id {
			s.pending = append(s.pending[:i:i], s.pending[i+1:]...)
			return
		}
	}
}

// Resume lists the reactions that are due and not decided, for a dispatcher that becomes active.
func (s *State) Resume() []Command { return append([]Command(nil), s.pending...) }

// React lists the intents that follow from a folded decision, with ids that are the same on every server and in every replay.
func (s *State) React(r events.Recorded) []Command {
	var out []Command
	cause := numberText(r.Number)
	for _, c := range s.pending {
		if c.Cause == cause {
			out = append(out, c)
		}
	}
	return out
}

// Seen finds the first outcome of a command's id. reused says that the id came with another body then.
func (s *State) Seen(c Command) (number uint64, o events.Outcome, reused, found bool) {
	return s.seen.find(c)
}

// seenIndex knows the outcomes of the last 30 days by id. The key of an intent is its actor and its id; since the id also names what
// the intent creates, and its operation, an id that one user has used is not another's to use. Internal actors (reactions,
// deadlines, reports) have ids that can be foretold, so no user's id is ever compared with theirs.
type seenIndex struct {
	by    map[string]seenEntry
	order []seenOld // oldest first
	old   int       // so many at the beginning of order are forgotten
}

type seenEntry struct {
	actor   string
	number  uint64
	outcome *events.Outcome // nil: plainly accepted, as most are
	digest  [16]byte
}

var plainlyAccepted = events.Outcome{Status: events.Accepted}

type seenOld struct {
	key string
	at  time.Time
}

func seenKeyOf(actor string, id events.IntentID) string {
	if isInternal(actor) {
		return actor + "\x00" + string(id)
	}
	return string(id)
}

func newSeenIndex() seenIndex { return seenIndex{by: map[string]seenEntry{}} }

func (x *seenIndex) add(r events.Recorded) {
	k := seenKeyOf(r.Actor, r.Intent)
	c := Command{Kind: r.Kind, Verb: r.Verb, Args: r.Args, Override: r.Override, Expect: r.Expect}
	e := seenEntry{actor: r.Actor, number: r.Number, digest: c.digest()}
	if r.Outcome != plainlyAccepted {
		o := r.Outcome // so that only what is kept is
		e.outcome = &o
	}
	x.by[k] = e
	x.order = append(x.order, seenOld{k, r.Time})
	for x.old < len(x.order) && r.Time.Sub(x.order[x.old].at) > keepSeen {
		delete(x.by, x.order[x.old].key)
		x.old++
	}
	if x.old > len(x.order)/2 { // not each time: it copies what is left
		x.order, x.old = append([]seenOld(nil), x.order[x.old:]...), 0
	}
}

func (x *seenIndex) find(c Command) (uint64, events.Outcome, bool, bool) {
	e, ok := x.by[seenKeyOf(c.Actor, c.Intent)]
	if !ok {
		return 0, events.Outcome{}, false, false
	}
	if e.actor != c.Actor { // say nothing of another's intent
		return 0, events.Outcome{}, true, true
	}
	o := plainlyAccepted
	if e.outcome != nil {
		o = *e.outcome
	}
	return e.number, o, e.digest != c.digest(), true
}
