package keep_test

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/audit"
	"cloudengine/events/audit/keep"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
)

// live is a real server on a log, and its keeper.
type live struct {
	srv *broker.Server
	js  jetstream.JetStream
	log *journal.Journal
	k   *keep.Keeper
}

func startLive(t *testing.T, dir string) *live {
	t.Helper()
	srv, err := broker.Start(t.Context(), broker.Options{Dir: filepath.Join(dir, "streams"), UnsafeNoFsync: true})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	nc, err := srv.Connect("test")
	must(t, err)
	t.Cleanup(nc.Close)
	l := &live{srv: srv}
	l.js, err = jetstream.New(nc)
	must(t, err)
	l.log, err = journal.Open(t.Context(), l.js)
	must(t, err)
	l.k, _, err = keep.Open(filepath.Join(dir, "audit"), filepath.Join(dir, "audit.key"), l.log, slog.New(slog.DiscardHandler), time.Now)
	must(t, err)
	return l
}

func (l *live) write(t *testing.T, payloads [][]byte) {
	t.Helper()
	for i, p := range payloads {
		_, err := l.log.Append(t.Context(), uint64(i), p)
		must(t, err)
	}
}

// TestForgedStream replaces the whole stream on a real server by one in which a decision is another and all digests were made anew: the
// server names it from what it hashed before, and signs nothing.
func TestForgedStream(t *testing.T) {
	dir, log := t.TempDir(), &memory{}
	log.grow(t, 150, 1, "ann")
	l := startLive(t, dir)
	l.write(t, log.payloads)
	before, err := l.k.Head(t.Context())
	must(t, err)
	if r, err := l.k.Verify(t.Context(), nil); err != nil || len(r.Findings) > 0 || r.Proven != log.at.Number {
		t.Fatalf("the true log: %+v %v", r, err)
	}

	log.cut(t, 70)
	number := log.at.Number + 1
	log.grow(t, 1, 1, "mallory")
	log.grow(t, 79, 1, "ann")
	must(t, l.js.DeleteStream(t.Context(), events.StreamEvents))
	l.srv.Shutdown()
	l = startLive(t, dir)
	l.write(t, log.payloads)

	if _, err := l.k.Head(t.Context()); !errors.Is(err, keep.ErrDiverged) {
		t.Fatalf("it signs: %v", err)
	}
	r, err := l.k.Verify(t.Context(), nil)
	must(t, err)
	if got := fmt.Sprint(r.Findings); r.Proven > 0 || !strings.Contains(got, fmt.Sprintf("decision %d was changed", number)) || !strings.Contains(got, "mallory vm.stop") {
		t.Fatalf("decision %d is not named: %s", number, got)
	}
	h, err := audit.Open(before.Note, before.Key)
	must(t, err)
	r, err = audit.Check(func(f func(uint64, []byte) error) error { return l.log.Blocks(t.Context(), 0, f) }, []audit.Witness{{Name: "stranger", Head: h}}, nil)
	if err != nil || len(r.Findings) != 1 || r.Findings[0].What != audit.Unnamed {
		t.Fatalf("a stranger with the head alone: %v %v", r.Findings, err)
	}
}

// TestHoleInTheStream is a block that is gone from the disk: the sequences have a gap.
func TestHoleInTheStream(t *testing.T) {
	dir, log := t.TempDir(), &memory{}
	log.grow(t, 120, 1, "ann")
	l := startLive(t, dir)
	s, err := l.js.Stream(t.Context(), events.StreamEvents)
	must(t, err)
	cfg := s.CachedInfo().Config // the server's own streams forbid this: a forger's has the rest alike
	must(t, l.js.DeleteStream(t.Context(), events.StreamEvents))
	cfg.DenyDelete, cfg.DenyPurge = false, false
	s, err = l.js.CreateStream(t.Context(), cfg)
	must(t, err)
	l.write(t, log.payloads)
	must(t, s.DeleteMsg(t.Context(), 60))
	r, err := l.k.Verify(t.Context(), nil)
	must(t, err)
	got := fmt.Sprint(r.Findings)
	if !strings.Contains(got, "after the block with sequence 59 comes 61") || !strings.Contains(got, "removed") {
		t.Fatal(got)
	}
	if _, err := l.k.Head(t.Context()); !errors.Is(err, keep.ErrDiverged) {
		t.Fatalf("it signs: %v", err)
	}
}
