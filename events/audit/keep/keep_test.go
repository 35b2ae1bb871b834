package keep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/audit"
	"cloudengine/events/audit/keep"
)

// memory is a log in memory.
type memory struct {
	payloads [][]byte
	at       events.Position
}

func (m *memory) Blocks(_ context.Context, after uint64, f func(uint64, []byte) error) error {
	for i := int(after); i < len(m.payloads); i++ {
		if err := f(uint64(i+1), m.payloads[i]); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Payload(_ context.Context, seq uint64) ([]byte, error) {
	if seq == 0 || seq > uint64(len(m.payloads)) {
		return nil, events.ErrBroken
	}
	return m.payloads[seq-1], nil
}

// grow appends n blocks of i%3+1 decisions each.
func (m *memory) grow(t testing.TB, n int, term uint64, actor string) {
	t.Helper()
	for range n {
		b := &events.Block{Format: events.Format, Term: term, First: m.at.Number + 1, Prev: m.at.Digest, Time: time.Unix(int64(1000+m.at.Seq), 0).UTC()}
		for i := range m.at.Seq%3 + 1 {
			b.Decisions = append(b.Decisions, events.Decision{Intent: events.IntentID(fmt.Sprint(b.First + i)), Actor: actor, Kind: events.KindVM, Verb: "stop",
				Outcome: events.Outcome{Status: events.Nothing}})
		}
		p, err := b.Encode()
		must(t, err)
		m.at, err = m.at.Next(m.at.Seq+1, b, events.Digest(p))
		must(t, err)
		m.payloads = append(m.payloads, p)
	}
}

// cut takes the log back to n blocks.
func (m *memory) cut(t testing.TB, n int) {
	t.Helper()
	all := m.payloads[:n]
	m.payloads, m.at = nil, events.Position{}
	for _, p := range all {
		b, err := events.DecodeBlock(p)
		must(t, err)
		m.at, err = m.at.Next(m.at.Seq+1, b, events.Digest(p))
		must(t, err)
		m.payloads = append(m.payloads, p)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type rig struct {
	dir  string
	log  *memory
	now  time.Time
	k    *keep.Keeper
	said strings.Builder
}

func newRig(t *testing.T) *rig {
	r := &rig{dir: t.TempDir(), log: &memory{}, now: time.Unix(1e9, 0)}
	r.log.grow(t, 100, 1, "ann")
	r.open(t)
	return r
}

// open starts the keeper anew, as a server's start does.
func (r *rig) open(t *testing.T) {
	t.Helper()
	var err error
	r.k, _, err = keep.Open(filepath.Join(r.dir, "audit"), filepath.Join(r.dir, "audit.key"), r.log, slog.New(slog.NewTextHandler(&r.said, nil)), func() time.Time {
		r.now = r.now.Add(2 * time.Minute)
		return r.now
	})
	must(t, err)
}

func (r *rig) head(t *testing.T) keep.Signed {
	t.Helper()
	s, err := r.k.Head(t.Context())
	must(t, err)
	h, err := audit.Open(s.Note, s.Key)
	must(t, err)
	if h != s.Head || h.Size != r.log.at.Number || h.Position() != r.log.at {
		t.Fatalf("head %+v of a log at %+v", h, r.log.at)
	}
	full, err := audit.Check(func(f func(uint64, []byte) error) error { return r.log.Blocks(t.Context(), 0, f) }, []audit.Witness{{Head: h}}, nil)
	must(t, err)
	if len(full.Findings) > 0 || full.Proven != h.Size {
		t.Fatalf("the head is not that of the log: %+v", full)
	}
	return s
}

func (r *rig) verify(t *testing.T) string {
	t.Helper()
	report, err := r.k.Verify(t.Context(), nil)
	must(t, err)
	return fmt.Sprint(report.Findings)
}

func TestHeadsGrowWithTheLog(t *testing.T) {
	r := newRig(t)
	first := r.head(t)
	for range 5 {
		r.log.grow(t, 30, 1, "bob")
		r.head(t)
		r.open(t) // from its files
		r.head(t)
	}
	if got := r.verify(t); got != "[]" {
		t.Fatal(got)
	}
	if again := r.head(t); again.Key != first.Key {
		t.Fatal("the key changed")
	}
	info, err := os.Stat(filepath.Join(r.dir, "audit.key"))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("mode of the key: %v", info.Mode())
	}
	if strings.Contains(r.said.String(), "anew") {
		t.Fatal("the tree was made anew: " + r.said.String())
	}
}

func TestKeyThatOthersCanRead(t *testing.T) {
	r := newRig(t)
	must(t, os.Chmod(filepath.Join(r.dir, "audit.key"), 0o644))
	if _, _, err := keep.Open(r.dir, filepath.Join(r.dir, "audit.key"), r.log, slog.Default(), time.Now); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatal(err)
	}
}

func TestProofsAndLeaves(t *testing.T) {
	r := newRig(t)
	old := r.head(t)
	r.log.grow(t, 20, 1, "bob")
	for _, n := range []uint64{1, 2, 3, old.Size, old.Size + 1, r.log.at.Number} {
		p, err := r.k.Prove(t.Context(), n, 0)
		must(t, err)
		_, d, err := p.Verify()
		if err != nil || d.Number != n || d.Intent != events.IntentID(fmt.Sprint(n)) {
			t.Fatalf("proof of %d: %+v, %v", n, d, err)
		}
	}
	p, err := r.k.Prove(t.Context(), 7, old.Size)
	must(t, err)
	p.Note, p.Key = string(old.Note), old.Key
	_, _, err = p.Verify(old.Key)
	must(t, err)
	p.Leaf[len(p.Leaf)-2]++
	if _, _, err = p.Verify(); !errors.Is(err, audit.ErrNotProven) {
		t.Fatal(err)
	}
	if _, err := r.k.Prove(t.Context(), old.Size+1, old.Size); !errors.Is(err, keep.ErrNoDecision) {
		t.Fatal(err)
	}
	var leaves []audit.Hash
	for after := uint64(0); after < old.Size; {
		raw, err := r.k.Leaves(t.Context(), after, 7)
		must(t, err)
		for i := 0; i < len(raw); i += 32 {
			leaves = append(leaves, audit.Hash(raw[i:i+32]))
		}
		after = uint64(len(leaves))
	}
	if audit.RootOf(leaves[:old.Size]) != old.Root {
		t.Fatal("the leaves are not those of the head")
	}
}

// TestDamagedTree is made anew, whatever is wrong with its files, and what is told of the log stays right.
func TestDamagedTree(t *testing.T) {
	hashes, state := "audit/tree.hashes", "audit/tree.state"
	for name, damage := range map[string]func(dir string) error{
		"no hashes":    func(d string) error { return os.Remove(filepath.Join(d, hashes)) },
		"no state":     func(d string) error { return os.Remove(filepath.Join(d, state)) },
		"short hashes": func(d string) error { return os.Truncate(filepath.Join(d, hashes), 700) },
		"state cut":    func(d string) error { return os.Truncate(filepath.Join(d, state), 50) },
		"zeros": func(d string) error {
			return errors.Join(os.Truncate(filepath.Join(d, hashes), 0), os.Truncate(filepath.Join(d, hashes), 1<<16))
		},
		"garbage state": func(d string) error { return os.WriteFile(filepath.Join(d, state), []byte("{}\nx\n"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			before := r.head(t)
			must(t, damage(r.dir))
			r.open(t)
			if after := r.head(t); after.Root != before.Root {
				t.Fatal("another root")
			}
			if got := r.verify(t); got != "[]" {
				t.Fatal(got)
			}
		})
	}
}

// TestDamagedInside changes hashes that no root is made of: a proof and a check must not use them.
func TestDamagedInside(t *testing.T) {
	r := newRig(t)
	r.head(t)
	f, err := os.OpenFile(filepath.Join(r.dir, "audit/tree.hashes"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(make([]byte, 32), 0)
	must(t, errors.Join(err, f.Close()))
	r.open(t)
	if got := r.verify(t); got != "[]" {
		t.Fatal(got)
	}
	p, err := r.k.Prove(t.Context(), 2, 0)
	must(t, err)
	if _, _, err := p.Verify(); err != nil || !strings.Contains(r.said.String(), "anew") {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
}

// TestLogThatWasChanged is never signed, and the server's own tree names the decision.
func TestLogThatWasChanged(t *testing.T) {
	r := newRig(t)
	r.head(t)
	blocks := len(r.log.payloads)
	r.log.cut(t, 50)
	number := r.log.at.Number + 1
	r.log.grow(t, 1, 1, "mallory") // all is made anew from there on
	r.log.grow(t, blocks-51, 1, "ann")
	r.open(t)
	if _, err := r.k.Head(t.Context()); !errors.Is(err, keep.ErrDiverged) {
		t.Fatal(err)
	}
	if got := r.verify(t); !strings.Contains(got, fmt.Sprintf("decision %d was changed", number)) || !strings.Contains(got, "mallory vm.stop") {
		t.Fatal(got)
	}
	r.log.cut(t, 40)
	if _, err := r.k.Head(t.Context()); !errors.Is(err, keep.ErrDiverged) {
		t.Fatal(err)
	}
	if got := r.verify(t); !strings.Contains(got, "truncated") {
		t.Fatal(got)
	}
}

// TestRestoredLog goes on under a later term: that is told, and signed again.
func TestRestoredLog(t *testing.T) {
	r := newRig(t)
	r.head(t)
	r.log.cut(t, 60)
	r.log.grow(t, 5, 2, "ann")
	r.open(t)
	r.head(t)
	if got := r.verify(t); got != "[]" || !strings.Contains(r.said.String(), "restored") {
		t.Fatalf("%s\n%s", got, r.said.String())
	}
	kept, err := filepath.Glob(filepath.Join(r.dir, "audit/heads.before-term-2"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("the heads before are gone: %v %v", kept, err)
	}
}

func TestEmptyLog(t *testing.T) {
	r := newRig(t)
	r.log.cut(t, 0)
	if _, err := r.k.Head(t.Context()); !errors.Is(err, keep.ErrEmpty) {
		t.Fatal(err)
	}
}
