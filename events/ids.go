package events

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Ids are UUIDs in their canonical text form. Each kind has its own type, so that one cannot be passed for another.
// The id of a created object is the id of the intent that created it.
type (
	AccountID  string
	UserID     string
	SecretID   string
	TemplateID string
	MachineID  string // also names the host, storage node, proxy or gateway that the machine is
	VMID       string
	IntentID   string
)

// Kind is the noun of an aggregate. It appears in subjects and is permanent.
type Kind string

// The kinds of aggregates.
const (
	KindLog       Kind = "log"
	KindAccount   Kind = "account"
	KindUser      Kind = "user"
	KindSecret    Kind = "secret"
	KindTemplate  Kind = "template"
	KindMachine   Kind = "machine"
	KindHost      Kind = "host"
	KindVM        Kind = "vm"
	KindOperation Kind = "operation"

	KindBootimage  Kind = "bootimage"  // its ids are versions of images, not UUIDs
	KindDiscovered Kind = "discovered" // its ids are the 12 digits of a MAC
)

// LogID is the id of the one aggregate of KindLog.
const LogID = "log"

// Ref names one aggregate. Its text form is "kind/id".
type Ref struct {
	Kind Kind
	ID   string
}

// String gives "kind/id".
func (r Ref) String() string { return string(r.Kind) + "/" + r.ID }

// MarshalText gives the form "kind/id".
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the form "kind/id"; "/" is the empty reference.
func (r *Ref) UnmarshalText(b []byte) error {
	if string(b) == "/" {
		*r = Ref{}
		return nil
	}
	kind, id, ok := strings.Cut(string(b), "/")
	if !ok || kind == "" || id == "" {
		return fmt.Errorf("read aggregate reference %q: want kind/id", b)
	}
	*r = Ref{Kind(kind), id}
	return nil
}

// Epoch numbers the run grants of one VM. It is compared as (Term, Counter): a later term wins over any counter.
type Epoch struct {
	Term    uint64 `json:"term"`
	Counter uint64 `json:"counter"`
}

// Compare gives -1, 0 or 1, as e is before, equal to or after o.
func (e Epoch) Compare(o Epoch) int {
	switch {
	case e == o:
		return 0
	case e.Term < o.Term || e.Term == o.Term && e.Counter < o.Counter:
		return -1
	}
	return 1
}

// IsZero says whether no grant was ever numbered so.
func (e Epoch) IsZero() bool { return e == Epoch{} }

// String gives "term.counter", the form that is stamped into xenstore.
func (e Epoch) String() string { return fmt.Sprintf("%d.%d", e.Term, e.Counter) }

// ParseEpoch reads the form of String.
func ParseEpoch(s string) (Epoch, error) {
	var e Epoch
	n, err := fmt.Sscanf(s, "%d.%d", &e.Term, &e.Counter)
	if err != nil || n != 2 || e.String() != s {
		return Epoch{}, fmt.Errorf("read epoch %q: want term.counter", s)
	}
	return e, nil
}

// Generation orders the DESIRED documents of one object: the term of the log and the number of the last decision that changed
// the rendered bytes. It is compared like an Epoch.
type Generation struct {
	Term   uint64 `json:"term"`
	Number uint64 `json:"number"`
}

// Compare gives -1, 0 or 1, as g is before, equal to or after o.
func (g Generation) Compare(o Generation) int {
	return Epoch{g.Term, g.Number}.Compare(Epoch{o.Term, o.Number})
}

var intentSpace = uuid.MustParse("6a0dd1a2-3c5e-5b0c-9b42-5f3a4f3e7c11") // permanent: free-form ids depend on it

// FreeFormID turns what a user gave with --id into an intent id: a UUID is kept, anything else becomes UUIDv5(actor, text).
func FreeFormID(actor, text string) IntentID {
	if id, err := uuid.Parse(text); err == nil {
		return IntentID(id.String())
	}
	return IntentID(uuid.NewSHA1(intentSpace, []byte("intent\x00"+actor+"\x00"+text)).String())
}

// ReactionID is the id of the index-th intent that follows from a decision. It is the same on every server and in every replay.
func ReactionID(decision uint64, index int) IntentID {
	return IntentID(uuid.NewSHA1(intentSpace, fmt.Appendf(nil, "reaction\x00%d\x00%d", decision, index)).String())
}

// GoldenID is the id of the golden volume that is made beside what an intent asks for, because that is copied from it.
func GoldenID(i IntentID) VolumeID {
	return VolumeID(uuid.NewSHA1(intentSpace, []byte("golden\x00"+string(i))).String())
}

// ReportID is the id of a report: the same while a machine repeats it.
func ReportID(m MachineID, boot string, counter uint64, kind string) IntentID {
	return IntentID(uuid.NewSHA1(intentSpace, fmt.Appendf(nil, "report\x00%s\x00%s\x00%d\x00%s", m, boot, counter, kind)).String())
}
