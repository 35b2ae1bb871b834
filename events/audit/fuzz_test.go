package audit_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"cloudengine/events"
	"cloudengine/events/audit"
)

// FuzzAnchor reads anything as an anchor: it is refused, or is the one that it was written as; and nothing but the signed head passes.
func FuzzAnchor(f *testing.F) {
	payloads := encode(f, history(1, 5), false)
	whole := anchorOf(f, payloads)
	real := witness(f, whole).Head
	f.Add(whole.Encode())
	f.Add(audit.Anchor{Note: whole.Note, Key: whole.Key}.Encode())
	f.Add(whole.Note)
	f.Add([]byte("cloudengine anchor 1\nkey x\nhead 9\nleaves 99999999999\n\nabc"))
	f.Fuzz(func(t *testing.T, file []byte) {
		a, err := audit.ParseAnchor(file)
		if err != nil {
			return
		}
		if a.Key != "" || a.Leaves != nil {
			if b, err := audit.ParseAnchor(a.Encode()); err != nil || !bytes.Equal(b.Note, a.Note) || b.Key != a.Key || len(b.Leaves) != len(a.Leaves) {
				t.Fatalf("written again it is another: %v", err)
			}
		}
		if h, err := a.Verify(whole.Key); err == nil && h != real {
			t.Fatalf("a head passes that was not signed: %+v", h)
		}
	})
}

// FuzzHead parses anything as the text of a head: what passes is written in one way alone.
func FuzzHead(f *testing.F) {
	h, _ := headOf(f, encode(f, history(1, 5), false))
	f.Add(h.Text())
	f.Add("cloudengine/\n1\n\nblock 1 \nterm 1\ntime \nsigned \n")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := audit.ParseHead(text); err == nil && h.Text() != text {
			t.Fatalf("%q is also written %q", text, h.Text())
		}
	})
}

// FuzzProof reads anything as a proof: only the decision that is in the log is proven.
func FuzzProof(f *testing.F) {
	payloads := encode(f, history(1, 5), false)
	anchor := anchorOf(f, payloads)
	var stored []audit.Hash
	var tree audit.Tree
	for _, l := range anchor.Leaves {
		stored = tree.Add(l, stored)
	}
	path := must(audit.Path(3, uint64(len(anchor.Leaves)), hashes(stored)))(f)
	raw := must(json.Marshal(audit.Proof{Note: string(anchor.Note), Key: anchor.Key, Number: 3, Leaf: leafOf(f, payloads, 3), Path: path}))(f)
	f.Add(raw)
	f.Add([]byte(`{"head":"","key":"","number":1}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := audit.ParseProof(file)
		if err != nil {
			return
		}
		if _, d, err := p.Verify(anchor.Key); err == nil && audit.LeafHash(p.Leaf) != anchor.Leaves[d.Number-1] {
			t.Fatalf("decision %d is proven and not in the log", d.Number)
		}
	})
}

// FuzzEnvelope holds the quick reading of a block against the full one.
func FuzzEnvelope(f *testing.F) {
	for _, p := range encode(f, history(1, 20), false) {
		f.Add(p)
	}
	f.Add([]byte(`{"format":1,"term":1,"first":1,"time":"2026-01-01T00:00:00Z","prev":"","decisions":[{"intent":"a]}\"","args":[[{}]]}]}`))
	f.Add([]byte(`{"Format":1,"term":1,"first":1,"time":"2026-01-01T00:00:00Z","prev":"","decisions":[{}],"decisions":[{},{}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := events.OpenEnvelope(payload)
		b, berr := events.DecodeBlock(payload)
		if err != nil || berr != nil {
			return
		}
		if e.First != b.First || e.Term != b.Term || !e.Time.Equal(b.Time) || e.Prev != b.Prev || len(e.Decisions) != len(b.Decisions) {
			t.Fatalf("read in two ways:\n%+v\n%+v", e, b)
		}
		for i, raw := range e.Decisions {
			var d events.Decision
			if err := json.Unmarshal(raw, &d); err != nil {
				t.Fatalf("decision %d: %v", i, err)
			}
			if one, two := must(json.Marshal(d))(t), must(json.Marshal(b.Decisions[i]))(t); !bytes.Equal(one, two) {
				t.Fatalf("decision %d is %s or %s", i, one, two)
			}
		}
	})
}
