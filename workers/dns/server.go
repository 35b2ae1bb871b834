package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"cloudengine/events/desired"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// What one guest may do. Over UDP one that asks more waits: its queries are not read, and the kernel drops what its queue has no room for.
const (
	perSecond = 1000 // queries, over UDP and TCP together
	burst     = 2000
	mostAsked = 32 // upstream at once
	mostConns = 16 // TCP connections
)

// maxQuery bounds what is read of one query over UDP, in bytes.
const maxQuery = 4096

// Options say where a server answers.
type Options struct {
	Namespace string   // file of the network namespace, as /run/netns/ce-4096; empty: this one
	Device    string   // the bridge in it; empty: br
	Upstream  []string // resolvers for what is not the zone's, ADDRESS:PORT, reached from this namespace; none: it is refused
	Log       *slog.Logger
}

// Server answers the guests of one network on this host.
type Server struct {
	opt     Options
	now     atomic.Pointer[state]
	changed chan struct{} // holds a token after a document
	count   map[error]*atomic.Uint64
	told    *rate.Sometimes
}

// state is what holds between two documents.
type state struct {
	zone    *Zone
	clients map[netip.Addr]*client // those that are answered: nobody else can make it grow
}

// client is the address of a NIC of this host.
type client struct {
	limit *rate.Limiter
	conns atomic.Int32  // over TCP
	asked chan struct{} // holds a token for each question that is out
}

// New makes a server that answers nobody until it is given a document.
func New(opt Options) *Server {
	if opt.Device == "" {
		opt.Device = "br"
	}
	s := &Server{opt: opt, changed: make(chan struct{}, 1), count: map[error]*atomic.Uint64{}, told: &rate.Sometimes{Interval: time.Minute}}
	for _, why := range append([]error{nil}, reasons...) {
		s.count[why] = &atomic.Uint64{}
	}
	s.now.Store(&state{zone: &Zone{}})
	return s
}

// Set lets a document count from the next query on. It may be called at any time, but only once at once. An error tells what of the document
// was left out; the rest counts.
func (s *Server) Set(doc desired.Network) error {
	z, err := NewZone(doc)
	old, fresh := s.now.Load().clients, map[netip.Addr]*client{}
	for ip := range z.here {
		if fresh[ip] = old[ip]; fresh[ip] == nil {
			fresh[ip] = &client{limit: rate.NewLimiter(perSecond, burst), asked: make(chan struct{}, mostAsked)}
		}
	}
	s.now.Store(&state{z, fresh})
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return err
}

// Counts tells how many queries were answered from the document ("answered"), and how many were not, by reason, since the server was made.
func (s *Server) Counts() map[string]uint64 {
	out := map[string]uint64{}
	for why, n := range s.count {
		name := "answered"
		if why != nil {
			name = why.Error()
		}
		out[name] = n.Load()
	}
	return out
}

// Serve opens sockets in the namespace and answers until ctx ends; then it gives nil. An error means that nobody is answered any more: it may be
// called again, but never twice at once.
func (s *Server) Serve(ctx context.Context) error {
	four, err := openSlots(s.opt.Namespace, s.opt.Device, "udp4")
	if err != nil {
		return err
	}
	defer four.close()
	six, err := openSlots(s.opt.Namespace, s.opt.Device, "udp6")
	if err != nil {
		return err
	}
	defer six.close()
	listeners, err := listenTCP(s.opt.Namespace, s.opt.Device)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		g.Go(func() error { return s.acceptTCP(ctx, l) })
	}
	g.Go(func() error { return s.follow(ctx, g, four, six) })
	return g.Wait()
}

// follow has a slot for each guest of each document.
func (s *Server) follow(ctx context.Context, g *errgroup.Group, four, six *slots) error {
	for {
		guests := map[bool][]netip.Addr{} // by whether they are of IPv4
		for ip := range s.now.Load().zone.here {
			guests[ip.Is4()] = append(guests[ip.Is4()], ip)
		}
		for _, family := range []*slots{four, six} {
			fresh, err := family.follow(guests[family == four])
			for _, c := range fresh {
				g.Go(func() error { return s.serveUDP(ctx, c, family.network) })
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		}
	}
}

// serveUDP answers what comes in by c until ctx ends. It closes c.
func (s *Server) serveUDP(ctx context.Context, c *net.UDPConn, network string) error {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	conn, err := newUDP(c, network)
	if err != nil {
		return err
	}
	buf := make([]byte, maxQuery)
	for {
		n, to, from, err := conn.read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read query: %w", err)
		}
		if from == nil {
			continue
		}
		st, ip := s.now.Load(), from.AddrPort().Addr().Unmap()
		who := st.clients[ip]
		if who == nil || !st.zone.isServer(to) {
			s.count[ErrUnknown].Add(1)
			continue
		}
		if who.limit.Wait(ctx) != nil {
			return nil
		}
		s.answer(ctx, st.zone, who, Query{From: ip, Data: buf[:n]}, func(p []byte) {
			if err := conn.write(p, to, from); err != nil && ctx.Err() == nil {
				s.told.Do(func() { s.opt.Log.Warn("send answer to guest", "address", ip, "error", err) })
			}
		})
	}
}

// answer answers from the document, or has the answer sent that comes from upstream. It does not wait for that, and does not keep q.Data.
func (s *Server) answer(ctx context.Context, z *Zone, who *client, q Query, send func([]byte)) {
	q.Upstream = len(s.opt.Upstream) > 0
	p, why := z.Answer(q)
	switch s.count[why].Add(1); why {
	case nil:
		send(p)
	case ErrElsewhere:
		s.forward(ctx, who, q, send)
	}
}
