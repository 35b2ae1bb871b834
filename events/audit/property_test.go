package audit_test

import (
	"errors"
	"slices"
	"testing"

	"cloudengine/events"
	"cloudengine/events/audit"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// hashes is a store of a tree in memory.
type hashes []audit.Hash

func (h hashes) ReadHashes(indexes []int64) ([]audit.Hash, error) {
	out := make([]audit.Hash, len(indexes))
	for i, at := range indexes {
		if at >= int64(len(h)) {
			return nil, errors.New("there is no such hash")
		}
		out[i] = h[at]
	}
	return out, nil
}

func leafOf(t testing.TB, payloads [][]byte, number uint64) []byte {
	for _, p := range payloads {
		if e := must(events.OpenEnvelope(p))(t); number >= e.First && number <= e.Last() {
			return audit.AppendLeaf(nil, e, int(number-e.First))
		}
	}
	t.Fatalf("no decision %d", number)
	return nil
}

// TestTreeIsThatOfTheLibrary holds our quick tree against package tlog at every size: roots, stored hashes, resuming.
func TestTreeIsThatOfTheLibrary(t *testing.T) {
	var tree audit.Tree
	var ours, theirs hashes
	for n := range int64(300) {
		leaf := []byte{byte(n), byte(n >> 8)}
		if audit.LeafHash(leaf) != tlog.RecordHash(leaf) {
			t.Fatal("another leaf hash")
		}
		ours = tree.Add(audit.LeafHash(leaf), ours)
		theirs = append(theirs, must(tlog.StoredHashes(n, leaf, theirs))(t)...)
		if !slices.Equal(ours, theirs) {
			t.Fatalf("stored hashes differ at size %d", n+1)
		}
		if want := must(tlog.TreeHash(n+1, theirs))(t); tree.Root() != want {
			t.Fatalf("root at size %d", n+1)
		}
		again := must(audit.Resume(uint64(n+1), ours))(t)
		if again.Root() != tree.Root() || again.Size() != tree.Size() {
			t.Fatalf("resumed at size %d it has another root", n+1)
		}
	}
	if want := must(tlog.TreeHash(0, nil))(t); (&audit.Tree{}).Root() != want {
		t.Fatal("root of the empty tree")
	}
}

// TestEveryProofHoldsAndNoOther proves each decision of random logs at random sizes, and none in another's place.
func TestEveryProofHoldsAndNoOther(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		payloads := encode(t, history(rapid.Uint64Range(1, 50).Draw(rt, "seed"), rapid.IntRange(1, 40).Draw(rt, "steps")), false)
		_, leaves := headOf(t, payloads)
		var tree audit.Tree
		var stored hashes
		for _, l := range leaves {
			stored = tree.Add(l, stored)
		}
		size := rapid.Uint64Range(1, uint64(len(leaves))).Draw(rt, "size")
		number := rapid.Uint64Range(1, size).Draw(rt, "number")
		other := rapid.Uint64Range(1, size).Draw(rt, "other")
		root := must(audit.RootAt(size, stored))(t)
		path := must(audit.Path(number, size, stored))(t)
		if err := audit.CheckPath(path, number, size, root, leafOf(t, payloads, number)); err != nil {
			rt.Fatal(err)
		}
		if other != number && audit.CheckPath(path, number, size, root, leafOf(t, payloads, other)) == nil {
			rt.Fatal("a decision is proven in another's place")
		}
	})
}

// TestNoForgeryPasses changes random logs in random ways, makes all digests anew, and is always found by an anchor; a log that only
// grew never is.
func TestNoForgeryPasses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		log := history(rapid.Uint64Range(1, 50).Draw(rt, "seed"), rapid.IntRange(2, 60).Draw(rt, "steps"))
		n := rapid.IntRange(1, len(log)).Draw(rt, "anchored")
		anchor := witness(t, anchorOf(t, encode(t, log[:n], false)))
		if r, err := audit.Check(walk(encode(t, log, false)), []audit.Witness{anchor}, nil); err != nil || len(r.Findings) > 0 || r.Proven != anchor.Head.Size {
			rt.Fatalf("the true log: %v %v", r.Findings, err)
		}
		forged := copied(log)
		b := forged[rapid.IntRange(0, n-1).Draw(rt, "block")]
		i := rapid.IntRange(0, len(b.Decisions)-1).Draw(rt, "decision")
		number := b.First + uint64(i)
		how := rapid.SampledFrom([]string{"change", "remove", "insert", "cut"}).Draw(rt, "how")
		switch how {
		case "change":
			b.Decisions[i].Reason += "x"
		case "remove":
			b.Decisions = slices.Delete(b.Decisions, i, i+1)
			forged = slices.DeleteFunc(forged, func(b *events.Block) bool { return len(b.Decisions) == 0 })
		case "insert":
			b.Decisions = slices.Insert(b.Decisions, i, events.Decision{Intent: "new", Actor: "mallory", Kind: events.KindVM, Verb: "stop", Outcome: events.Outcome{Status: events.Nothing}})
		case "cut":
			forged = forged[:n-1]
		}
		if len(forged) == 0 {
			return
		}
		r, err := audit.Check(walk(encode(t, forged, true)), []audit.Witness{anchor}, nil)
		if errors.Is(err, audit.ErrOtherCloud) { // nothing of it is left
			return
		}
		if err != nil || len(r.Findings) == 0 || r.Proven > 0 {
			rt.Fatalf("%s of decision %d passes: %v", how, number, err)
		}
		if f := r.Findings[0]; how != "cut" && f.First != number {
			rt.Fatalf("%s of decision %d is told as %v", how, number, f)
		}
	})
}

// TestLocateIsExact changes lists of distinct hashes, with runs of removals and insertions, and wants each named.
func TestLocateIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(rt, "n")
		var was, is []audit.Hash
		want := map[string]int{}
		for i := range n {
			was = append(was, audit.Hash{1, byte(i)})
			switch rapid.SampledFrom([]string{"", "", "", audit.Changed, audit.Removed, audit.Inserted}).Draw(rt, "what") {
			case audit.Changed:
				is = append(is, audit.Hash{2, byte(i)})
				want[audit.Changed]++
			case audit.Removed:
				want[audit.Removed]++
			case audit.Inserted:
				is = append(is, audit.Hash{3, byte(i)}, was[i])
				want[audit.Inserted]++
			default:
				is = append(is, was[i])
			}
		}
		last := audit.Hash{9} // so that the end is known
		was, is = append(was, last), append(is, last)
		got := map[string]int{}
		for _, f := range audit.Locate(was, is) {
			got[f.What]++
		}
		// One removed beside one inserted is one changed: no more can be known.
		if got[audit.Removed]-got[audit.Inserted] != want[audit.Removed]-want[audit.Inserted] || len(got) == 0 && len(want) > 0 ||
			got[audit.Changed] < want[audit.Changed] && got[audit.Changed]+got[audit.Removed] < want[audit.Changed]+want[audit.Removed]-want[audit.Inserted] {
			rt.Fatalf("got %v, want %v", got, want)
		}
	})
}
