package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"cloudengine/events/desired"
)

// TestServersFollowNamespace: servers go on in their namespace through changes of the document, and are started anew when another one has its name.
func TestServersFollowNamespace(t *testing.T) {
	dir := t.TempDir()
	nets := []desired.Network{{VNI: 4096}}
	s := newNetServers(func() []desired.Network { return nets }, slog.New(slog.DiscardHandler))
	s.path = func(vni int) string { return filepath.Join(dir, strconv.Itoa(vni)) }
	must(t, os.WriteFile(s.path(4096), nil, 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		for vni := range s.running {
			s.stop(vni)
		}
	}()
	s.follow(ctx)
	first := s.running[4096]
	s.follow(ctx)
	if first == nil || s.running[4096] != first {
		t.Fatal("servers of a namespace that stands were started again")
	}
	must(t, os.WriteFile(s.path(4097), nil, 0o600))
	must(t, os.Rename(s.path(4097), s.path(4096)))
	s.follow(ctx)
	if x := s.running[4096]; x == nil || x == first || x.space == first.space {
		t.Fatal("the servers are those of the namespace that was replaced")
	}
}
