package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events/desired"
	"cloudengine/workers/dhcp"
	"cloudengine/workers/dns"
	"cloudengine/workers/network"
)

// serverPause is how long a server that ended is left alone before it is started again.
const serverPause = time.Second

// netServers answer DHCP and DNS on the networks that stand, from their documents alone.
type netServers struct {
	standing func() []desired.Network
	log      *slog.Logger
	news     chan struct{}        // holds a token after a change
	path     func(vni int) string // of a network's namespace

	running map[int]*servedNet
}

// servedNet is one network that is answered on.
type servedNet struct {
	dhcp  *dhcp.Server
	dns   *dns.Server
	space namespace // in which they answer
	end   context.CancelFunc
	done  sync.WaitGroup
}

// namespace tells namespaces apart that had one name after the other. Its file is there as long as anybody is in it, so none that is served is
// taken for a later one.
type namespace struct{ dev, inode uint64 }

// namespaceAt gives the namespace that has a name now, or the zero one.
func namespaceAt(path string) namespace {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return namespace{}
	}
	return namespace{uint64(st.Dev), st.Ino}
}

func newNetServers(standing func() []desired.Network, log *slog.Logger) *netServers {
	return &netServers{standing: standing, log: log, news: make(chan struct{}, 1), path: network.Kernel{}.Path, running: map[int]*servedNet{}}
}

// wake says that networks, or their documents, have changed.
func (s *netServers) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// run works until ctx ends, and waits for all that it has started.
func (s *netServers) run(ctx context.Context) error {
	defer func() {
		for vni := range s.running {
			s.stop(vni)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.news:
			s.follow(ctx)
		}
	}
}

// follow starts and stops servers, and tells those that go on what is new.
func (s *netServers) follow(ctx context.Context) {
	stands := map[int]bool{}
	for _, n := range s.standing() {
		stands[n.VNI] = true
		x, ok := s.running[n.VNI]
		if ok && x.space != namespaceAt(s.path(n.VNI)) { // it was made anew: the old servers answer nobody there
			s.stop(n.VNI)
			ok = false
		}
		if !ok {
			x = s.start(ctx, n.VNI)
		}
		if err := errors.Join(x.dhcp.Set(n), x.dns.Set(n)); err != nil { // the last one that could be read goes on
			s.log.Warn("document of a network cannot be answered from", "vni", n.VNI, "err", err)
		}
	}
	for vni := range s.running {
		if !stands[vni] {
			s.stop(vni)
		}
	}
}

func (s *netServers) start(ctx context.Context, vni int) *servedNet {
	ctx, end := context.WithCancel(ctx)
	path := s.path(vni)
	x := &servedNet{
		space: namespaceAt(path), // before they enter: if it is replaced in between they are started once more
		dhcp:  dhcp.New(dhcp.Options{Namespace: path, Device: network.Bridge, Log: s.log}),
		dns:   dns.New(dns.Options{Namespace: path, Device: network.Bridge, Log: s.log}), end: end,
	}
	s.running[vni] = x
	for what, serve := range map[string]func(context.Context) error{"dhcp": x.dhcp.Serve, "dns": x.dns.Serve} {
		x.done.Go(func() { s.serve(ctx, what, vni, serve) })
	}
	return x
}

// serve goes on until ctx ends: a server that cannot answer is started again.
func (s *netServers) serve(ctx context.Context, what string, vni int, serve func(context.Context) error) {
	for ctx.Err() == nil {
		if err := serve(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("guests are not answered for the moment", "server", what, "vni", vni, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(serverPause):
		}
	}
}

func (s *netServers) stop(vni int) {
	x := s.running[vni]
	delete(s.running, vni)
	x.end()
	x.done.Wait()
}
