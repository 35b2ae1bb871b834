package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/audit"
)

// flat gives a log of one decision in each block, so that block n holds decision n.
func flat(t testing.TB, n int) []*events.Block {
	t.Helper()
	var out []*events.Block
	for _, b := range history(3, n) {
		for i, d := range b.Decisions {
			if len(out) == n {
				return out
			}
			out = append(out, &events.Block{Format: events.Format, Term: 1, First: b.First + uint64(i), Time: b.Time, Decisions: []events.Decision{d}})
		}
	}
	return out
}

func copied(blocks []*events.Block) []*events.Block {
	var out []*events.Block
	for _, b := range blocks {
		c := *b
		c.Decisions = slices.Clone(b.Decisions)
		out = append(out, &c)
	}
	return out
}

// TestForgeriesThatMakeAllDigestsAnew are done by someone who can write the whole log and knows its form: the chain is whole, and only
// the anchor tells. It must name the decision.
func TestForgeriesThatMakeAllDigestsAnew(t *testing.T) {
	log := flat(t, 60)
	anchor := witness(t, anchorOf(t, encode(t, log[:50], false)))
	for name, c := range map[string]struct {
		do   func([]*events.Block) []*events.Block
		want []string // findings, as "what first"
	}{
		"changed argument": {func(b []*events.Block) []*events.Block {
			b[16].Decisions[0].Args = args(map[string]string{"vm": "another"})
			return b
		}, []string{"changed 17"}},
		"changed outcome": {func(b []*events.Block) []*events.Block {
			b[29].Decisions[0].Outcome = events.Outcome{Status: events.Refused, Code: "guard"}
			return b
		}, []string{"changed 30"}},
		"changed actor of the last": {func(b []*events.Block) []*events.Block { b[49].Decisions[0].Actor = "mallory"; return b }, []string{"changed 50"}},
		"changed first":             {func(b []*events.Block) []*events.Block { b[0].Decisions[0].Reason = "other"; return b }, []string{"changed 1"}},
		"changed time": {func(b []*events.Block) []*events.Block {
			b[20].Time = b[20].Time.In(time.FixedZone("", 3600))
			return b
		}, []string{"changed 21"}},
		"changed term": {func(b []*events.Block) []*events.Block {
			for _, x := range b[48:] {
				x.Term = 2
			}
			return b
		}, []string{"changed 49", "changed 50"}},
		"removed":     {func(b []*events.Block) []*events.Block { return slices.Delete(b, 9, 10) }, []string{"removed 10"}},
		"removed two": {func(b []*events.Block) []*events.Block { return slices.Delete(b, 9, 11) }, []string{"removed 10", "removed 11"}},
		"inserted": {func(b []*events.Block) []*events.Block {
			c := *b[12]
			c.Decisions = []events.Decision{{Intent: "x", Actor: "mallory", Kind: events.KindVM, Verb: "stop", Outcome: events.Outcome{Status: events.Accepted}}}
			return slices.Insert(b, 13, &c)
		}, []string{"inserted 14"}},
		"reordered": {func(b []*events.Block) []*events.Block {
			b[30].Decisions, b[31].Decisions = b[31].Decisions, b[30].Decisions
			b[30].Time = b[31].Time
			return b
		}, nil}, // times differ: told below
		"truncated": {func(b []*events.Block) []*events.Block { return b[:45] }, []string{"truncated 46"}},
		"two things": {func(b []*events.Block) []*events.Block {
			b[40].Decisions[0].Actor = "mallory"
			return slices.Delete(b, 3, 4)
		}, []string{"removed 4", "changed 41"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := audit.Check(walk(encode(t, c.do(copied(log)), true)), []audit.Witness{anchor}, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range r.Findings {
				got = append(got, fmt.Sprintf("%s %d", f.What, f.First))
			}
			if len(got) == 0 || r.Proven != 0 || c.want != nil && !slices.Equal(got, c.want) {
				t.Fatalf("found %v, want %v\n%s", got, c.want, words(r))
			}
			if bare, err := audit.Check(walk(encode(t, c.do(copied(log)), true)), nil, nil); err != nil || len(bare.Findings) > 0 {
				t.Fatalf("the forgery is found without the anchor, so it is none: %v %v", bare.Findings, err)
			}
			short := audit.Witness{Name: "head", Head: anchor.Head}
			switch r, err := audit.Check(walk(encode(t, c.do(copied(log)), true)), []audit.Witness{short}, nil); {
			case errors.Is(err, audit.ErrOtherCloud) && name == "changed first":
			case err != nil || len(r.Findings) != 1:
				t.Fatalf("a head without the list of decisions: %v %v", r.Findings, err)
			}
		})
	}
}

func TestReorderedDecisionsOfOneTime(t *testing.T) {
	log := flat(t, 40)
	for _, b := range log {
		b.Time = log[39].Time
	}
	anchor := witness(t, anchorOf(t, encode(t, log, false)))
	forged := copied(log)
	sixth := forged[5]
	forged = slices.Insert(slices.Delete(forged, 5, 6), 20, sixth)
	r, err := audit.Check(walk(encode(t, forged, true)), []audit.Witness{anchor}, nil)
	if err != nil || len(r.Findings) != 1 || r.Findings[0].What != audit.Reordered || r.Findings[0].First != 6 || r.Findings[0].Now != 21 {
		t.Fatalf("%v\n%s", err, words(r))
	}
}

// TestClumsyTampering is found by the chain alone, and named as well as it can be told.
func TestClumsyTampering(t *testing.T) {
	log := flat(t, 40)
	whole := encode(t, log, false)
	replace := func(i int, change func(b *events.Block)) func([][]byte) [][]byte {
		return func(p [][]byte) [][]byte {
			b := must(events.DecodeBlock(p[i]))(t)
			change(b)
			p[i] = must(b.Encode())(t)
			return p
		}
	}
	for name, c := range map[string]struct {
		do    func([][]byte) [][]byte
		what  string
		first uint64 // 0: not told
		text  string
	}{
		"changed argument":    {replace(16, func(b *events.Block) { b.Decisions[0].Args = args("x") }), audit.Changed, 0, "up to decision 17"},
		"changed outcome":     {replace(16, func(b *events.Block) { b.Decisions[0].Outcome.Status = events.Nothing }), audit.Changed, 0, "up to decision 17"},
		"removed":             {func(p [][]byte) [][]byte { return slices.Delete(p, 9, 10) }, audit.Removed, 10, "decision 10"},
		"inserted":            {func(p [][]byte) [][]byte { return slices.Insert(p, 9, p[5]) }, audit.Inserted, 6, "sequence 10"},
		"reordered":           {func(p [][]byte) [][]byte { p[9], p[10] = p[10], p[9]; return p }, audit.Reordered, 10, "decision 10"},
		"beginning removed":   {func(p [][]byte) [][]byte { return p[3:] }, audit.Removed, 1, "decisions 1–3"},
		"number gap":          {replace(20, func(b *events.Block) { b.First++ }), audit.Removed, 21, "decision 21"},
		"clock goes backward": {replace(39, func(b *events.Block) { b.Time = b.Time.Add(-time.Hour) }), audit.TimeFalls, 40, "time never goes back"},
		"garbled":             {func(p [][]byte) [][]byte { p[7] = p[7][:len(p[7])-1]; return p }, audit.Garbled, 8, "cannot be read"},
		"not JSON":            {func(p [][]byte) [][]byte { p[7] = []byte("\x00\xff"); return p }, audit.Garbled, 8, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := audit.Check(walk(c.do(slices.Clone(whole))), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if f := find(r, c.what); f == nil || c.first != 0 && f.First != c.first || !strings.Contains(f.Message, c.text) {
				t.Fatalf("want %s of %d with %q:\n%s", c.what, c.first, c.text, words(r))
			}
		})
	}
}

func TestTermFalls(t *testing.T) {
	log := flat(t, 10)
	for i, b := range log {
		b.Term = 2
		if i == 7 {
			b.Term = 1
		}
	}
	r, err := audit.Check(walk(encode(t, log, false)), nil, nil)
	if err != nil || len(r.Findings) != 1 || r.Findings[0].What != audit.TermFalls || r.Findings[0].First != 8 {
		t.Fatalf("%v\n%s", err, words(r))
	}
}

// TestWholeLogs have nothing found on them, and everything up to the largest anchor is proven.
func TestWholeLogs(t *testing.T) {
	for seed := range uint64(5) {
		log := history(seed, 100)
		payloads := encode(t, log, false)
		var all []audit.Witness
		for _, n := range []int{1, len(payloads) / 2, len(payloads)} {
			all = append(all, witness(t, anchorOf(t, payloads[:n])))
		}
		seen := uint64(0)
		r, err := audit.Check(walk(payloads), all, func(b *events.Block) []audit.Finding { seen = b.Last(); return nil })
		if err != nil || len(r.Findings) != 0 || r.Proven != r.Decisions || seen != r.Decisions {
			t.Fatalf("seed %d: proven %d, seen %d, of %d: %v\n%s", seed, r.Proven, seen, r.Decisions, err, words(r))
		}
	}
}

func TestFraming(t *testing.T) {
	payloads := encode(t, flat(t, 10), false)
	anchor := witness(t, anchorOf(t, payloads))
	payloads[9] = append(bytes.TrimSuffix(payloads[9], []byte("}")), " }"...)
	r, err := audit.Check(walk(payloads), []audit.Witness{anchor}, nil)
	if err != nil || len(r.Findings) != 1 || r.Findings[0].What != audit.Framing {
		t.Fatalf("%v\n%s", err, words(r))
	}
}

func TestAnotherCloud(t *testing.T) {
	r, err := audit.Check(walk(encode(t, history(1, 50), false)), []audit.Witness{witness(t, anchorOf(t, encode(t, history(2, 50), false)))}, nil)
	if !errors.Is(err, audit.ErrOtherCloud) {
		t.Fatalf("%v\n%s", err, words(r))
	}
}

// TestRestoredLog went back to a backup and on from there: what is lost is named, and the term says why.
func TestRestoredLog(t *testing.T) {
	log := flat(t, 40)
	anchor := witness(t, anchorOf(t, encode(t, log, false)))
	again := copied(log[:35])
	opened := events.Decision{Intent: "o", Actor: "system:bootstrap", Kind: events.KindLog, Verb: "open", Outcome: events.Outcome{Status: events.Accepted},
		Events: []events.Event{events.New(events.KindLog, events.LogID, 2, events.LogOpened{Term: 2, Cause: "restored"})}}
	again = append(again, &events.Block{Format: events.Format, Term: 2, Time: log[39].Time, Decisions: []events.Decision{opened}})
	r, err := audit.Check(walk(encode(t, again, true)), []audit.Witness{anchor}, nil)
	if err != nil || !strings.Contains(words(r), "restored from a backup") || find(r, audit.Truncated) == nil || find(r, audit.Changed).First != 36 {
		t.Fatalf("%v\n%s", err, words(r))
	}
}
