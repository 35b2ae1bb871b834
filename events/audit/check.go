package audit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudengine/events"
)

// ErrOtherCloud says that what is compared does not belong together.
var ErrOtherCloud = errors.New("this is of another cloud's log")

// Witness is what is known of a log from elsewhere: a head that was verified, and the hashes of all its leaves, if they are known.
type Witness struct {
	Name   string // for messages
	Head   Head
	Leaves []Hash
}

// Walk gives each block of a log to f, in order, from the first on, and ends with f's error or its own.
type Walk func(f func(seq uint64, payload []byte) error) error

// Report is what a check found.
type Report struct {
	Cloud     string    `json:"cloud"`  // digest of the first block
	Blocks    uint64    `json:"blocks"` // sequence of the last block
	Decisions uint64    `json:"decisions"`
	Term      uint64    `json:"term"`
	Time      time.Time `json:"time,omitzero"` // of the last block
	Head      string    `json:"head"`          // digest of the last block
	Root      string    `json:"root"`          // of the tree over all decisions, base64
	Proven    uint64    `json:"proven"`        // so many decisions, from the first on, are those of a witness
	Findings  []Finding `json:"findings"`      // empty: all is well
	More      int       `json:"more,omitempty"`
}

// Check verifies the log that walk gives: that each block follows from the one before, and that it is the log that each witness knows.
// each, which may be nil, hears of each block in order and may find more. What is found is named, with what stands there now, for
// which the log is walked a second time. Errors: that of walk; ErrOtherCloud when a witness is of another log altogether.
func Check(walk Walk, witnesses []Witness, each func(*events.Block) []Finding) (Report, error) {
	c := checker{digests: map[uint64]string{}}
	c.reader.Keep = len(witnesses) > 0
	var sizes []uint64
	for _, w := range witnesses {
		sizes = append(sizes, w.Head.Size)
		c.digests[w.Head.Seq] = ""
	}
	c.reader.Tree.Watch(sizes...)
	if each != nil {
		c.reader.Each = func(_ uint64, b *events.Block, _ string) {
			for _, f := range each(b) {
				c.rules.Add(f)
			}
		}
	}
	if err := c.walk(walk); err != nil {
		return c.report(), err
	}
	c.reader.Chain.Close()
	for _, w := range bySayings(witnesses) {
		if err := c.compare(w); err != nil {
			return c.report(), err
		}
	}
	err := c.describe(walk)
	return c.report(), err
}

// bySayings gives first those who can say most.
func bySayings(all []Witness) []Witness {
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b Witness) int {
		if n := cmp.Compare(len(b.Leaves), len(a.Leaves)); n != 0 {
			return n
		}
		return cmp.Compare(b.Head.Size, a.Head.Size)
	})
	return out
}

type checker struct {
	reader  Reader
	digests map[uint64]string // of the blocks that witnesses name, by sequence
	precise Findings          // by witnesses
	rules   Findings
	proven  uint64
}

func (c *checker) compare(w Witness) error {
	root, reached := c.reader.Tree.Watched(w.Head.Size)
	digest, same := c.digests[w.Head.Seq], c.reader.Cloud() == w.Head.Cloud
	switch {
	case !same && !c.shares(w.Leaves):
		return fmt.Errorf("%s is of the log that begins with block %.12s…, and this one begins with %.12s…: %w (or its first block was changed)",
			w.Name, w.Head.Cloud, c.reader.Cloud(), ErrOtherCloud)
	case reached && root == w.Head.Root && digest == w.Head.Digest && same:
		c.proven = max(c.proven, w.Head.Size)
	case reached && root == w.Head.Root:
		c.precise.Add(Finding{What: Framing, Seq: w.Head.Seq, Message: fmt.Sprintf(
			"%s: all %d decisions are those that were there, and the blocks around them are not: they were divided or written in another way", w.Name, w.Head.Size)})
	case !c.precise.None(): // one who could say more has told already
	case w.Leaves != nil:
		for _, f := range Locate(w.Leaves, c.reader.Leaves) {
			f.Message = w.Name + ": " + f.Message
			c.precise.Add(f)
		}
	case !reached:
		c.precise.Add(Finding{What: Truncated, First: c.reader.Tree.Size() + 1, Last: w.Head.Size, Message: fmt.Sprintf(
			"%s knows %d decisions, and the log ends at decision %d: its end was cut off, or it was rolled back", w.Name, w.Head.Size, c.reader.Tree.Size())})
	default:
		c.precise.Add(Finding{What: Unnamed, Last: w.Head.Size, Message: fmt.Sprintf(
			"%s: something among decisions 1–%d is not what it was, and the head alone cannot say what (use an anchor with its list of decisions)",
			w.Name, w.Head.Size)})
	}
	return nil
}

// shares says whether a list and the log have a decision in common.
func (c *checker) shares(leaves []Hash) bool {
	known := make(map[Hash]bool, len(leaves))
	for _, l := range leaves {
		known[l] = true
	}
	for _, l := range c.reader.Leaves {
		if known[l] {
			return true
		}
	}
	return false
}

// describe walks the log again to say what stands where something is wrong.
func (c *checker) describe(walk Walk) error {
	wanted, last := map[uint64][]int{}, uint64(0)
	for i, f := range c.precise.List {
		if f.Now > 0 {
			wanted[f.Now] = append(wanted[f.Now], i)
			last = max(last, f.Now)
		}
	}
	if last == 0 {
		return nil
	}
	place, enough := uint64(0), errors.New("enough")
	err := walk(func(seq uint64, payload []byte) error {
		e, err := events.OpenEnvelope(payload)
		if err != nil {
			return nil // it was told, and has no place in the tree
		}
		for i := range e.Decisions {
			place++
			for _, k := range wanted[place] {
				f := &c.precise.List[k]
				f.Seq = seq
				f.Message += "; there stands now: " + inWords(e, i)
			}
		}
		if place >= last {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

// inWords names a decision.
func inWords(e *events.Envelope, i int) string {
	var d struct {
		Intent, Actor, Kind, Verb string
		Outcome                   struct{ Status string }
	}
	if err := json.Unmarshal(e.Decisions[i], &d); err != nil {
		return "what cannot be read"
	}
	text := fmt.Sprintf("%s %s.%s %s, intent %s, %s", d.Actor, d.Kind, d.Verb, d.Outcome.Status, d.Intent, e.Time.UTC().Format(time.RFC3339))
	if d.Kind == string(events.KindLog) && d.Verb == "open" {
		text += fmt.Sprintf(" (term %d begins there: the log was restored from a backup, or reopened, and what was after it is lost)", e.Term)
	}
	return text
}

func (c *checker) report() Report {
	at := c.reader.Chain.At()
	root, _ := c.reader.Tree.Root().MarshalJSON() // it has no error
	r := Report{Cloud: c.reader.Cloud(), Blocks: at.Seq, Decisions: c.reader.Tree.Size(), Term: at.Term, Time: at.Time, Head: at.Digest,
		Root: string(root[1 : len(root)-1]), Proven: c.proven, Findings: []Finding{}}
	for _, f := range []*Findings{&c.precise, &c.reader.Chain.Findings, &c.rules} {
		r.Findings = append(r.Findings, f.List...)
		r.More += f.More
	}
	return r
}
