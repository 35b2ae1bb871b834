package commands

import (
	"errors"
	"maps"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"cloudengine/events"
)

// verbs holds every command that there is, by kind and verb.
var verbs map[string]entry

func init() { // a table that its own entries refer to cannot be a plain variable
	verbs = map[string]entry{
		"log.open":                   verb(user(events.RoleAdmin).or(ActorBootstrap), decideOpenLog),
		"log.settle":                 verb(user(events.RoleAdmin), decideSettleLog),
		"log.raise_level":            verb(user(events.RoleAdmin), decideRaiseLevel),
		"server.announce":            verb(internal(ActorServer), decideAnnounceServer),
		"server.remove":              verb(user(events.RoleAdmin), decideRemoveServer),
		"account.create":             verb(user(events.RoleAdmin), decideCreateAccount),
		"account.delete":             verb(user(events.RoleAdmin), decideDeleteAccount),
		"user.create":                verb(user(events.RoleAdmin).or(ActorBootstrap), decideCreateUser),
		"user.revoke":                verb(user(events.RoleAdmin), decideRevokeUser),
		"secret.set":                 verb(user(events.RoleAdmin), decideSetSecret),
		"template.create":            verb(member(events.RoleOperate), decideCreateTemplate),
		"template.delete":            verb(member(events.RoleOperate), decideDeleteTemplate),
		"template.import":            verb(user(events.RoleOperate), decideImportTemplate),
		"machine.add":                verb(user(events.RoleOperate), decideAddMachine),
		"machine.remove":             verb(user(events.RoleAdmin), decideRemoveMachine),
		"machine.power":              verb(user(events.RoleOperate), decidePower),
		"machine.set_image":          verb(user(events.RoleOperate), decideSetMachineImage),
		"machine.report_discovered":  verb(internal(ActorNetboot), decideReportDiscovered),
		"machine.enrol":              verb(internal(machinePrefix), decideEnrol),
		"machine.report":             verb(internal(machinePrefix), decideReport),
		"machine.report_boot_served": verb(internal(ActorNetboot), decideBootServed),
		"machine.report_power":       verb(internal(ActorPower), decideReportPower),
		"machine.report_bmc":         verb(internal(ActorPower), decideReportBMC),
		"machine.report_silent":      verb(internal(ActorLiveness), decideSilent),
		"machine.report_returned":    verb(internal(ActorLiveness), decideReturned),
		"bootimage.register":         verb(user(events.RoleOperate).or(ActorNetboot), decideRegisterBootimage),
		"bootimage.remove":           verb(user(events.RoleAdmin), decideRemoveBootimage),
		"bootimage.set_default":      verb(user(events.RoleOperate), decideSetDefaultBootimage),
		"discovered.drop":            verb(user(events.RoleOperate), decideDropDiscovered),
		"host.cordon":                verb(user(events.RoleOperate), decideCordon),
		"host.uncordon":              verb(user(events.RoleOperate), decideUncordon),
		"host.stop_orphan":           verb(user(events.RoleOperate), decideStopOrphan),
		"host.adopt_orphan":          verb(user(events.RoleOperate), decideAdoptOrphan),
		"vm.create":                  verb(member(events.RoleOperate), decideCreateVM),
		"vm.start":                   verb(member(events.RoleOperate), decideStartVM),
		"vm.shutdown":                verb(member(events.RoleOperate), decideShutdownVM),
		"vm.stop":                    verb(member(events.RoleOperate), decideStopVM),
		"vm.reboot":                  verb(member(events.RoleOperate), decideRebootVM),
		"vm.pause":                   verb(member(events.RoleOperate), decidePauseVM),
		"vm.resume":                  verb(member(events.RoleOperate), decideResumeVM),
		"vm.delete":                  verb(member(events.RoleOperate), decideDeleteVM),
		"vm.resize":                  verb(member(events.RoleOperate), decideResizeVM),
		"vm.place":                   verb(internal(ActorReaction), decidePlaceVM),
		"vm.expire_shutdown":         verb(internal(ActorDeadline), decideExpireShutdown),
		"fabric.create":              verb(user(events.RoleAdmin), decideCreateFabric),
		"fabric.delete":              verb(user(events.RoleAdmin), decideDeleteFabric),
		"fabric.join":                verb(user(events.RoleOperate), decideJoinFabric),
		"fabric.leave":               verb(user(events.RoleOperate), decideLeaveFabric),
		"pool.create":                verb(user(events.RoleOperate), decideCreatePool),
		"pool.delete":                verb(user(events.RoleAdmin), decideDeletePool),
		"array.create":               verb(user(events.RoleOperate), decideCreateArray),
		"array.failover":             verb(user(events.RoleOperate), decideFailoverArray),
		"array.delete":               verb(user(events.RoleAdmin), decideDeleteArray),
		"array.replace_leg":          verb(user(events.RoleOperate), decideReplaceLeg),
		"array.cancel_replacement":   verb(user(events.RoleOperate), decideCancelReplacement),
		"machine.drain":              verb(user(events.RoleOperate), decideDrain),
		"machine.undrain":            verb(user(events.RoleOperate), decideUndrain),
		"machine.drain_next":         verb(internal(ActorReaction), decideDrainNext),
		"array.set_resync":           verb(user(events.RoleOperate), decideSetResync),
		"array.check":                verb(user(events.RoleOperate), decideCheckArray),
		"array.check_due":            verb(internal(ActorDeadline), decideCheckDue),
		"array.turn":                 verb(internal(ActorReaction), decideTurn),
		"pool.set":                   verb(user(events.RoleOperate), decideSetPool),
		"array.place":                verb(internal(ActorReaction), decidePlaceArray),
		"array.take_over":            verb(internal(ActorReaction), decideTakeOver),
		"volume.create":              verb(member(events.RoleOperate), decideCreateVolume),
		"volume.grow":                verb(member(events.RoleOperate), decideGrowVolume),
		"volume.limit":               verb(user(events.RoleOperate), decideLimitVolume),
		"volume.attach":              verb(member(events.RoleOperate), decideAttachVolume),
		"volume.detach":              verb(member(events.RoleOperate), decideDetachVolume),
		"volume.delete":              verb(member(events.RoleOperate), decideDeleteVolume),
		"volume.drop_golden":         verb(internal(ActorReaction), decideDropGolden),
		"machine.report_storage":     verb(internal(machinePrefix), decideStorageReport),
		"operation.expire":           verb(internal(ActorDeadline), decideExpireOperation),
	}
	maps.Copy(verbs, networkVerbs())
}

func knownVerbs(k events.Kind) string {
	var out []string
	for name, e := range verbs {
		if kind, v, _ := strings.Cut(name, "."); kind == string(k) && e.may.role != "" {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		return "none (there is no such kind)"
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

// decision is a decision in the making.
type decision struct {
	s      *State
	c      Command
	now    time.Time
	user   *User // nil for internal actors
	events []events.Event
	bumped map[events.Ref]uint64
}

// add appends an event with the aggregate's next version.
func (d *decision) add(kind events.Kind, id string, data events.Payload) {
	ref := events.Ref{Kind: kind, ID: id}
	v, ok := d.bumped[ref]
	if !ok {
		v = d.s.versions[ref]
	}
	if d.bumped == nil {
		d.bumped = map[events.Ref]uint64{}
	}
	d.bumped[ref] = v + 1
	d.events = append(d.events, events.New(kind, id, v+1, data))
}

// newID is the id of what this command creates: the intent's. Ids of objects are never given twice, also not after their end: a stamp
// or a report of the old one could be taken for the new one's.
func (d *decision) newID() string { return string(d.c.Intent) }

func (d *decision) freshID(kind events.Kind) error {
	if d.s.versions[events.Ref{Kind: kind, ID: d.newID()}] > 0 {
		return reject(events.CodeIDReused, "there is, or was, a %s with the id of this intent: make a new id", kind)
	}
	return nil
}

// expect refuses when the object is not called any more what the client saw.
func (d *decision) expect(kind events.Kind, name string) error {
	if d.c.Expect != nil && d.c.Expect.Name != "" && d.c.Expect.Name != name {
		return reject(events.CodeChanged, "the %s is called %q, not %q: look it up again", kind, name, clip(d.c.Expect.Name))
	}
	return nil
}

// Decide says what follows from a command in this state, at the time of its block. It changes nothing.
func (s *State) Decide(c Command, now time.Time) events.Decision {
	out := events.Decision{
		Intent: c.Intent, Actor: c.Actor, Kind: c.Kind, Verb: c.Verb, Args: c.Args, Expect: c.Expect,
		Override: c.Override, Cause: c.Cause, Correlation: c.Correlation, Reason: c.Reason,
	}
	d := &decision{s: s, c: c, now: now}
	err := d.run()
	var no *Rejection
	switch {
	case errors.As(err, &no):
		out.Outcome = events.Outcome{Status: events.Refused, Code: no.Code, Guard: no.Guard, Message: no.tell(d.user)}
	case err != nil:
		out.Outcome = events.Outcome{Status: events.Refused, Code: events.CodeInvalid, Message: err.Error()}
	case len(d.events) == 0:
		out.Outcome = events.Outcome{Status: events.Nothing}
	default:
		out.Outcome = events.Outcome{Status: events.Accepted}
		out.Events = d.events
	}
	return s.bounded(out, now)
}

func (d *decision) run() error {
	a, err := check(d.c)
	if err != nil {
		return err
	}
	e := verbs[string(d.c.Kind)+"."+d.c.Verb]
	if err := e.may.allow(d); err != nil {
		return err
	}
	if d.user != nil {
		if err := tooOld(d.c.Intent, d.now); err != nil {
			return err
		}
	}
	if d.c.Verb == "create" || d.c.Verb == "add" {
		if err := d.freshID(d.c.Kind); err != nil {
			return err
		}
	}
	if err := e.decide(d, a); err != nil {
		return err
	}
	return d.readable()
}

// tooOld refuses a UUIDv7 that is older than what the index of ids remembers: nobody could say whether it was decided before.
func tooOld(id events.IntentID, now time.Time) error {
	u, err := uuid.Parse(string(id))
	if err != nil {
		return invalid("field \"id\": %q is not a UUID", clip(string(id)))
	}
	if u.Version() != 7 {
		return nil
	}
	sec, nsec := u.Time().UnixTime()
	if now.Sub(time.Unix(sec, nsec)) > keepSeen {
		return reject(events.CodeIDTooOld, "the intent's id is more than 30 days old: make a new one")
	}
	return nil
}

// permission says who may use a verb.
type permission struct {
	role     string // least role of a user; empty: no user may
	member   bool   // users that are bound to an account may, within it
	internal []string
}

func user(role string) permission   { return permission{role: role} }
func member(role string) permission { return permission{role: role, member: true} }
func internal(actors ...string) permission {
	return permission{internal: actors}
}
func (p permission) or(actor string) permission {
	p.internal = append(p.internal, actor)
	return p
}

var rank = map[string]int{events.RoleRead: 1, events.RoleOperate: 2, events.RoleAdmin: 3}

func (p permission) allow(d *decision) error {
	if isInternal(d.c.Actor) {
		for _, a := range p.internal {
			if a == d.c.Actor || strings.HasSuffix(a, ":") && strings.HasPrefix(d.c.Actor, a) {
				return nil
			}
		}
		return reject(events.CodeUnauthorized, "%s may not %s a %s", d.c.Actor, d.c.Verb, d.c.Kind)
	}
	u, ok := d.s.userByName(d.c.Actor)
	if !ok || u.Revoked {
		return reject(events.CodeUnauthorized, "there is no user %q", clip(d.c.Actor))
	}
	d.user = u
	if p.role == "" {
		return reject(events.CodeForbidden, "%s.%s is not for users", d.c.Kind, d.c.Verb)
	}
	if rank[u.Role] < rank[p.role] {
		return reject(events.CodeForbidden, "%s.%s needs the role %s; %s has %s", d.c.Kind, d.c.Verb, p.role, u.Name, u.Role)
	}
	if u.Account != "" && !p.member {
		return reject(events.CodeForbidden, "%s.%s is for operators of the platform; %s belongs to one account", d.c.Kind, d.c.Verb, u.Name)
	}
	if len(d.c.Override) > 0 && (u.Role != events.RoleAdmin || u.Account != "") {
		return reject(events.CodeForbidden, "an override needs the role admin of the platform")
	}
	return nil
}

// owns says whether the actor may touch what belongs to an account.
func (d *decision) owns(a events.AccountID) bool {
	return d.user == nil || d.user.Account == "" || d.user.Account == a
}

func numberText(n uint64) string { return strconv.FormatUint(n, 10) }
