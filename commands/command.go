package commands

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"cloudengine/events"
)

// Actors that are not users.
const (
	ActorReaction  = "system:reaction"
	ActorDeadline  = "system:deadline"
	ActorLiveness  = "system:liveness"
	ActorNetboot   = "system:netboot"
	ActorPower     = "system:power"
	ActorBootstrap = "system:bootstrap"
	ActorServer    = "system:server"

	systemPrefix  = "system:"
	machinePrefix = "machine:"
)

// MachineActor is the actor of a machine's own reports.
func MachineActor(m events.MachineID) string { return machinePrefix + string(m) }

// Command is a wish: an intent, a report, a reaction or a deadline.
type Command struct {
	Intent      events.IntentID
	Actor       string
	Kind        events.Kind
	Verb        string
	Args        json.RawMessage
	Expect      *events.Expect
	Override    []string
	Cause       string
	Correlation string
	Reason      string
}

// digest is what makes two commands with the same id the same command.
func (c Command) digest() [16]byte {
	out := make([]byte, 0, 256)
	out = append(append(out, c.Kind...), 0)
	out = append(append(out, c.Verb...), 0)
	out = append(append(out, compact(c.Args)...), 0)
	out = append(out, strings.Join(c.Override, ",")...)
	if c.Expect != nil {
		out = append(append(out, 0), c.Expect.Name...)
	}
	sum := sha256.Sum256(out)
	return [16]byte(sum[:16])
}

// compact gives JSON without its spaces, and what is not JSON as it is.
func compact(raw json.RawMessage) []byte {
	if !bytes.ContainsAny(raw, " \t\r\n") {
		return raw // as it is in the log
	}
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return raw
	}
	return out.Bytes()
}

func (c Command) overrides(guard string) bool {
	for _, g := range c.Override {
		if g == guard {
			return true
		}
	}
	return false
}

// Rejection is a rule that says no. It is a normal outcome, not a failure.
type Rejection struct {
	Code    string // events.Code…
	Guard   string // the guard that may be overridden by name, if any
	Message string // for people: what is so, and what to do

	ForAccounts string // what users of one account are told instead: nothing of what is not theirs; empty: Message
}

// Error gives the message.
func (r *Rejection) Error() string { return r.Message }

// tell gives the message for a user; nil: for a component of the platform.
func (r *Rejection) tell(u *User) string {
	if u != nil && u.Account != "" && r.ForAccounts != "" {
		return r.ForAccounts
	}
	return r.Message
}

func reject(code, format string, a ...any) *Rejection {
	return &Rejection{Code: code, Message: fmt.Sprintf(format, a...)}
}

func guarded(guard, format string, a ...any) *Rejection {
	return &Rejection{Code: events.CodeGuard, Guard: guard, Message: fmt.Sprintf(format, a...)}
}

func invalid(format string, a ...any) *Rejection { return reject(events.CodeInvalid, format, a...) }

// Guards that --override can name.
const (
	GuardEndProof    = "end_proof"    // a new run grant without proof that the last one is over
	GuardRunningVMs  = "running_vms"  // ending the power of a machine that runs VMs
	GuardUnreported  = "unreported"   // settling a restored log before all machines have said what they run
	GuardForeignData = "foreign_data" // making a disk a leg that holds something that is not ours
	GuardLastCopy    = "last_copy"    // ending the power of a storage node that has the last good copy of some data
	GuardLostGrants  = "lost_grants"  // settling it while domains run that were granted by its lost part
)

var guards = map[string]bool{GuardEndProof: true, GuardRunningVMs: true, GuardUnreported: true, GuardLostGrants: true, GuardForeignData: true, GuardLastCopy: true}

// args is what every command's arguments can do: say which of their fields is wrong.
type args interface{ check() *Rejection }

// entry is how one verb is handled.
type entry struct {
	may    permission
	parse  func(json.RawMessage) (args, error)
	decide func(*decision, args) error
}

func verb[A args](may permission, decide func(*decision, A) error) entry {
	return entry{
		may: may,
		parse: func(raw json.RawMessage) (args, error) {
			var a A
			if err := strict(raw, &a); err != nil {
				return nil, err
			}
			return a, nil
		},
		decide: func(d *decision, a args) error { return decide(d, a.(A)) },
	}
}

// strict reads JSON and refuses unknown fields, wrong types and trailing data, naming the field.
func strict(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	if !utf8.Valid(raw) {
		return invalid("the arguments are not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return invalid("field %q: want %s, got %s", wrong.Field, wrong.Type, wrong.Value)
	case err != nil:
		return invalid("read arguments: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("read arguments: there is something after the end of the object")
	}
	return nil
}

// maxText is the longest free text (reason, cause, correlation) in bytes.
const maxText = 1000

// Check says whether a command fits its schema: known verb, known fields, right types, sane sizes. What it refuses (a *Rejection with
// code "invalid") is answered and never stored.
func Check(c Command) error {
	_, err := check(c)
	return err
}

func check(c Command) (args, error) {
	e, ok := verbs[string(c.Kind)+"."+c.Verb]
	if !ok {
		return nil, invalid("there is no %s.%s; known verbs of %s: %s", clip(string(c.Kind)), clip(c.Verb), clip(string(c.Kind)), knownVerbs(c.Kind))
	}
	if c.Intent == "" || len(c.Intent) > 64 {
		return nil, invalid("field \"id\": want a UUID")
	}
	for name, s := range map[string]string{"reason": c.Reason, "cause": c.Cause, "correlation": c.Correlation} {
		if len(s) > maxText || !utf8.ValidString(s) {
			return nil, invalid("field %q: want at most %d bytes of UTF-8", name, maxText)
		}
	}
	if len(c.Override) > 0 && strings.TrimSpace(c.Reason) == "" {
		return nil, invalid("field \"reason\": an override needs a reason; it stays in the log for ever")
	}
	for _, g := range c.Override {
		if !guards[g] {
			return nil, invalid("field \"override\": there is no guard %q", clip(g))
		}
	}
	a, err := e.parse(c.Args)
	if err != nil {
		return nil, err
	}
	if r := a.check(); r != nil {
		return nil, r
	}
	return a, nil
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "?") + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// Stored says whether a decision belongs into the log: every intent of a user and every reaction does, accepted or refused; a report only
// when it changed something or contradicts a grant.
func Stored(d events.Decision) bool {
	if len(d.Events) > 0 {
		return true
	}
	switch d.Outcome.Code {
	case events.CodeContradicts, events.CodeTwoMachines:
		return true
	case events.CodeInvalid, events.CodeUnauthorized, events.CodeIDTooOld:
		return false
	}
	return d.Actor == ActorReaction || !isInternal(d.Actor)
}

func isInternal(actor string) bool {
	return strings.HasPrefix(actor, systemPrefix) || strings.HasPrefix(actor, machinePrefix)
}

// keepSeen is how long an intent's outcome is known by its id.
const keepSeen = 30 * 24 * time.Hour
