package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/audit"
	"cloudengine/projections/projectionstest"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// history gives blocks of 1 to 5 decisions, each of some milliseconds.
func history(seed uint64, steps int) []*events.Block {
	r := rand.New(rand.NewPCG(seed, 1))
	all := projectionstest.New(r.IntN, 2).Steps(steps).All()
	var blocks []*events.Block
	for len(all) > 0 {
		n := min(1+r.IntN(5), len(all))
		b := &events.Block{Format: events.Format, Term: 1, First: all[0].Number, Time: all[n-1].Time}
		for _, d := range all[:n] {
			b.Decisions = append(b.Decisions, d.Decision)
		}
		blocks, all = append(blocks, b), all[n:]
	}
	return blocks
}

// encode gives the payloads. All links, and numbers if renumber, are made anew: what a forger does who can write.
func encode(t testing.TB, blocks []*events.Block, renumber bool) [][]byte {
	t.Helper()
	var out [][]byte
	prev, first := "", uint64(1)
	for _, b := range blocks {
		c := *b
		c.Prev = prev
		if renumber {
			c.First = first
		}
		p := must(c.Encode())(t)
		out, prev, first = append(out, p), events.Digest(p), c.Last()+1
	}
	return out
}

func walk(payloads [][]byte) audit.Walk {
	return func(f func(uint64, []byte) error) error {
		for i, p := range payloads {
			if err := f(uint64(i+1), p); err != nil {
				return err
			}
		}
		return nil
	}
}

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

var signedAt = time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)

// headOf makes the head of a log, and all its leaves.
func headOf(t testing.TB, payloads [][]byte) (audit.Head, []audit.Hash) {
	t.Helper()
	r := audit.Reader{Keep: true}
	for i, p := range payloads {
		r.Add(uint64(i+1), p)
	}
	r.Chain.Close()
	if !r.Chain.Findings.None() {
		t.Fatalf("the log is not whole: %v", r.Chain.Findings)
	}
	at := r.Chain.At()
	return audit.Head{Cloud: r.Cloud(), Size: r.Tree.Size(), Root: r.Tree.Root(), Seq: at.Seq, Digest: at.Digest, Term: at.Term, Time: at.Time, Signed: signedAt}, r.Leaves
}

func anchorOf(t testing.TB, payloads [][]byte) audit.Anchor {
	t.Helper()
	h, leaves := headOf(t, payloads)
	return audit.Anchor{Note: must(audit.Sign(h, key))(t), Key: must(audit.PublicKey(h.Cloud, key))(t), Leaves: leaves}
}

// witness goes the whole way: the anchor is written, read and verified.
func witness(t testing.TB, a audit.Anchor) audit.Witness {
	t.Helper()
	a = must(audit.ParseAnchor(a.Encode()))(t)
	return audit.Witness{Name: "anchor", Head: must(a.Verify())(t), Leaves: a.Leaves}
}

func find(r audit.Report, what string) *audit.Finding {
	for i := range r.Findings {
		if r.Findings[i].What == what {
			return &r.Findings[i]
		}
	}
	return nil
}

func words(r audit.Report) string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, f.String())
	}
	return strings.Join(out, "\n")
}

func args(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
