package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Format is the version of the block format that this program writes.
const Format = 1

// ErrConflict says that someone else appended to the log first. Only the journal makes it, only dispatch retries it.
var ErrConflict = errors.New("the log has moved on")

// Status is how a decision ended.
type Status string

// The outcomes of an intent. All three are final.
const (
	Accepted Status = "accepted"
	Nothing  Status = "nothing" // what was asked for was already so
	Refused  Status = "refused"
)

// Outcome is the answer to an intent.
type Outcome struct {
	Status  Status `json:"status"`
	Code    string `json:"code,omitempty"`    // stable, for programs: "not_found", "name_taken", …
	Guard   string `json:"guard,omitempty"`   // the guard that refused; it may be named in override
	Message string `json:"message,omitempty"` // for people
}

// Event is one fact about one aggregate.
type Event struct {
	Aggregate Ref     `json:"aggregate"`
	Version   uint64  `json:"version"` // counts the events of the aggregate from 1
	Type      string  `json:"type"`    // always Data.EventType()
	Data      Payload `json:"data"`
}

// Payload is the data of an event. Names are written by hand in names.go.
type Payload interface{ EventType() string }

// Unknown carries an event whose type this program does not know. Who folds it must stop or park the object, never skip it.
type Unknown struct {
	Type string
	Raw  json.RawMessage
}

// EventType gives the unknown name.
func (u Unknown) EventType() string { return u.Type }

// MarshalJSON gives the bytes that were read.
func (u Unknown) MarshalJSON() ([]byte, error) { return u.Raw, nil }

// UnmarshalJSON reads an event and its payload by the type's wire name.
func (e *Event) UnmarshalJSON(b []byte) error {
	var raw struct {
		Aggregate Ref             `json:"aggregate"`
		Version   uint64          `json:"version"`
		Type      string          `json:"type"`
		Data      json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	if raw.Type == "" || raw.Aggregate.ID == "" || len(raw.Data) == 0 {
		return fmt.Errorf("read event %q of %q: type, aggregate and data must not be empty", raw.Type, raw.Aggregate)
	}
	data, err := decodePayload(raw.Type, raw.Data)
	if err != nil {
		return err
	}
	*e = Event{raw.Aggregate, raw.Version, data.EventType(), data} // of an older version: as it is read today
	return nil
}

// Decision is one intent and its outcome, with the events that follow from it. Its events are atomic.
type Decision struct {
	Intent      IntentID        `json:"intent"`
	Actor       string          `json:"actor"`
	Kind        Kind            `json:"kind"`
	Verb        string          `json:"verb"`
	Args        json.RawMessage `json:"args,omitempty"`
	Expect      *Expect         `json:"expect,omitempty"`
	Override    []string        `json:"override,omitempty"`
	Cause       string          `json:"cause,omitempty"` // number of the decision that this one follows from, or the caller's word
	Correlation string          `json:"correlation,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Outcome     Outcome         `json:"outcome"`
	Events      []Event         `json:"events,omitempty"`
}

// Recorded is a decision with its place in the log.
type Recorded struct {
	Number uint64 // counts all decisions of the log from 1, without gaps
	Term   uint64
	Time   time.Time // of its block; never before that of an earlier decision
	Decision
}

// Block is one message of the EVENTS stream: all that was decided while the block before it was under way.
type Block struct {
	Format    int        `json:"format"`
	Term      uint64     `json:"term"`
	First     uint64     `json:"first"` // number of the first decision
	Time      time.Time  `json:"time"`
	Prev      string     `json:"prev"` // SHA-256 (hex) over the payload of the block before; empty on the first
	Decisions []Decision `json:"decisions"`
}

// Last gives the number of the block's last decision.
func (b *Block) Last() uint64 { return b.First + uint64(len(b.Decisions)) - 1 }

// Recorded gives the block's decisions with their numbers.
func (b *Block) Recorded() []Recorded {
	out := make([]Recorded, len(b.Decisions))
	for i, d := range b.Decisions {
		out[i] = Recorded{b.First + uint64(i), b.Term, b.Time, d}
	}
	return out
}

// Encode gives the payload that is stored.
func (b *Block) Encode() ([]byte, error) {
	buf := &bytes.Buffer{}
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(b); err != nil {
		return nil, fmt.Errorf("encode block %d: %w", b.First, err)
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// DecodeBlock reads a stored payload. It refuses a format that it does not know.
func DecodeBlock(payload []byte) (*Block, error) {
	b, err := quickBlock(payload)
	if err != nil {
		b = &Block{}
		if err := json.Unmarshal(payload, b); err != nil {
			return nil, fmt.Errorf("decode block: %w", err)
		}
	}
	if b.Format != Format {
		return nil, fmt.Errorf("decode block %d: %w", b.First, unknownFormat(b.Format))
	}
	if b.First == 0 || b.Term == 0 || len(b.Decisions) == 0 {
		return nil, fmt.Errorf("decode block %d: first, term and decisions must not be empty", b.First)
	}
	return b, nil
}

// ErrNewer says that a newer version of the program wrote what is read. It loses nothing: that version can go on.
var ErrNewer = errors.New("a newer version of this program wrote this: start that version, nothing is lost")

func unknownFormat(format int) error {
	if format > Format {
		return fmt.Errorf("format %d is not known to this version, which reads format %d: %w", format, Format, ErrNewer)
	}
	return fmt.Errorf("format %d is not known to this version, which reads format %d", format, Format)
}

// Digest is the SHA-256 (hex) of a stored payload, which the next block names in Prev.
func Digest(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:])
}
