package audit

import (
	"errors"
	"fmt"
	"time"

	"cloudengine/events"
)

// What can be found wrong.
const (
	Changed   = "changed"
	Removed   = "removed"
	Inserted  = "inserted"
	Reordered = "reordered"
	Truncated = "truncated"
	Garbled   = "garbled"   // it cannot be read
	Gap       = "gap"       // sequences of the stream
	TermFalls = "term"      // terms never fall
	TimeFalls = "time"      // times never go back
	Framing   = "framing"   // the decisions are the same, and the block around them is not
	Unnamed   = "unnamed"   // something is not as it was, and nothing here can say what
	Invariant = "invariant" // what is told would break a rule of the platform
)

// Finding is one thing that is wrong. First and Last are the numbers of the decisions that it is about: those that they had, if what they
// were is known. 0: none in particular.
type Finding struct {
	What    string `json:"what"`
	Seq     uint64 `json:"seq,omitempty"` // of the block
	First   uint64 `json:"first,omitempty"`
	Last    uint64 `json:"last,omitempty"`
	Now     uint64 `json:"now,omitempty"` // place of what stands there now
	Message string `json:"message"`
}

// String gives the finding for people.
func (f Finding) String() string { return f.What + ": " + f.Message }

// MaxFindings bounds how many findings are kept; more are counted.
const MaxFindings = 100

// Findings are what was found wrong.
type Findings struct {
	List []Finding
	More int // were found and not kept
}

// Add keeps one more.
func (f *Findings) Add(x Finding) {
	if len(f.List) >= MaxFindings {
		f.More++
		return
	}
	f.List = append(f.List, x)
}

// None says that nothing was found.
func (f *Findings) None() bool { return len(f.List) == 0 }

// Chain verifies the blocks of a log one after the other, as events.Position does, and goes on after what is wrong, to name it all. The
// zero Chain is before the first block. Not safe for concurrent use.
type Chain struct {
	Findings
	at      events.Position
	blind   bool   // the block before could not be read: how many decisions it held is not known
	missing []span // numbers that were passed over, and may still come
}

// span is a run of decision numbers that did not come where they should have, and where they should have come.
type span struct{ first, last, seq uint64 }

// ChainAt goes on after a place that is known.
func ChainAt(at events.Position) Chain { return Chain{at: at} }

// At gives the place after the last block that is in order.
func (c *Chain) At() events.Position { return c.at }

// Follow verifies the next block. digest is that of its payload.
func (c *Chain) Follow(seq uint64, e *events.Envelope, digest string) {
	if seq != c.at.Seq+1 {
		c.found(Gap, seq, 0, 0, "after the block with sequence %d comes %d", c.at.Seq, seq)
	}
	if !c.numbers(seq, e) {
		c.at.Seq = seq // the chain goes on where it was
		return
	}
	next := events.Position{Seq: seq, Number: e.Last(), Term: e.Term, Digest: digest, Time: e.Time}
	if e.Term < c.at.Term {
		c.found(TermFalls, seq, e.First, e.Last(), "%s has term %d after term %d: a term never falls", decisions(e.First, e.Last()), e.Term, c.at.Term)
		next.Term = c.at.Term
	}
	if e.Time.Before(c.at.Time) {
		c.found(TimeFalls, seq, e.First, e.Last(), "%s has time %s after %s: time never goes back in a log", decisions(e.First, e.Last()),
			e.Time.Format(time.RFC3339Nano), c.at.Time.Format(time.RFC3339Nano))
		next.Time = c.at.Time
	}
	c.at, c.blind = next, false
}

// numbers verifies the number of the block's first decision and its link to the block before, and says whether the chain goes on with
// it. One cause is told once.
func (c *Chain) numbers(seq uint64, e *events.Envelope) bool {
	want, linked := c.at.Number+1, e.Prev == c.at.Digest
	switch {
	case e.First < want && c.came(e.First, e.Last()):
		c.found(Reordered, seq, e.First, e.Last(), "%s at sequence %d stands after decision %d: the order was changed",
			decisions(e.First, e.Last()), seq, c.at.Number)
		return false
	case e.First < want:
		c.found(Inserted, seq, e.First, e.Last(), "the block at sequence %d begins with decision %d, and decision %d is before it: "+
			"it was inserted there, or something before it was", seq, e.First, c.at.Number)
		return e.Last() > c.at.Number
	case e.First > want && !c.blind:
		c.missing = append(c.missing, span{want, e.First - 1, seq})
	case !linked && c.at.Seq == 0:
		c.found(Removed, seq, 0, 0, "the first block names a block before it (%.12s): the beginning was removed", e.Prev)
	case !linked:
		c.found(Changed, c.at.Seq, 0, 0, "the block at sequence %d, up to decision %d, has digest %.12s, and the block after it was appended to %.12s: "+
			"one of its decisions was changed, or the block after it is not the one that was there", c.at.Seq, e.First-1, c.at.Digest, e.Prev)
	}
	return true
}

// came takes numbers off those that are missing, and says whether they were.
func (c *Chain) came(first, last uint64) bool {
	for i, s := range c.missing {
		if first < s.first || last > s.last {
			continue
		}
		rest := append([]span{}, c.missing[:i]...)
		if s.first < first {
			rest = append(rest, span{s.first, first - 1, s.seq})
		}
		if last < s.last {
			rest = append(rest, span{last + 1, s.last, s.seq})
		}
		c.missing = append(rest, c.missing[i+1:]...)
		return true
	}
	return false
}

// Garbled notes that the next block cannot be read. What it holds is not known.
func (c *Chain) Garbled(seq uint64, digest string, err error) {
	c.found(Garbled, seq, c.at.Number+1, 0, "the block at sequence %d, after decision %d, cannot be read: %v", seq, c.at.Number, err)
	c.at.Seq, c.at.Digest, c.blind = seq, digest, true
}

// Close tells what never came. It is called once, after the last block.
func (c *Chain) Close() {
	for _, s := range c.missing {
		c.found(Removed, s.seq, s.first, s.last, "%s should have come before the block at sequence %d: as many were removed from before it",
			decisions(s.first, s.last), s.seq)
	}
	c.missing = nil
}

func (c *Chain) found(what string, seq, first, last uint64, format string, args ...any) {
	c.Findings.Add(Finding{What: what, Seq: seq, First: first, Last: last, Message: fmt.Sprintf(format, args...)})
}

// decisions names a run of decisions.
func decisions(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("decision %d", first)
	}
	return fmt.Sprintf("decisions %d–%d", first, last)
}

// Reader verifies the blocks of a log and builds its tree. Not safe for concurrent use.
type Reader struct {
	Chain  Chain
	Tree   Tree
	Leaves []Hash                                           // hashes of all decisions, 32 bytes each, if Keep
	Keep   bool                                             // remember them
	Each   func(seq uint64, b *events.Block, digest string) // hears of each block that can be read; nil: nobody, and decisions are not decoded

	cloud string
	out   []Hash
}

// Cloud gives the digest of the first block; empty before it.
func (r *Reader) Cloud() string { return r.cloud }

// Add verifies the next block by its payload.
func (r *Reader) Add(seq uint64, payload []byte) {
	d := Decode(payload, r.Each != nil)
	r.AddDecoded(seq, &d)
}

// Decoded is a payload that was read, which may be done for several at a time.
type Decoded struct {
	Envelope *events.Envelope
	Block    *events.Block // nil unless it was asked for
	Digest   string
	Leaves   []Hash // of its decisions
	Err      error
}

var errDiffers = errors.New("it reads in two ways")

// Decode reads a payload; its decisions too, if full.
func Decode(payload []byte, full bool) Decoded {
	d := Decoded{Digest: events.Digest(payload)}
	if d.Envelope, d.Err = events.OpenEnvelope(payload); d.Err != nil {
		return d
	}
	d.Leaves = leavesOf(d.Envelope)
	if !full {
		return d
	}
	if d.Block, d.Err = d.Envelope.Decode(payload); d.Err != nil {
		return d
	}
	if b, e := d.Block, d.Envelope; b.First != e.First || b.Term != e.Term || b.Prev != e.Prev || len(b.Decisions) != len(e.Decisions) || !b.Time.Equal(e.Time) {
		d.Err = errDiffers
	}
	return d
}

// AddDecoded verifies the next block.
func (r *Reader) AddDecoded(seq uint64, d *Decoded) {
	if r.cloud == "" {
		r.cloud = d.Digest
	}
	if d.Err != nil {
		r.Chain.Garbled(seq, d.Digest, d.Err)
		return
	}
	r.Chain.Follow(seq, d.Envelope, d.Digest)
	r.out = r.Tree.AddAll(d.Leaves, r.out[:0])
	if r.Keep {
		r.Leaves = append(r.Leaves, d.Leaves...)
	}
	if r.Each != nil {
		r.Each(seq, d.Block, d.Digest)
	}
}
