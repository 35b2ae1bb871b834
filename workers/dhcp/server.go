package dhcp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"cloudengine/events/desired"
	"cloudengine/workers/dhcp/fixed"

	"github.com/mdlayher/packet"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// What one NIC may ask, of all three protocols together: a boot takes about ten packets. Who asks more waits: its packets are not read, and
// the kernel drops what its queue has no room for.
const (
	perSecond = 10
	burst     = 40
)

// When all guests are told of the network without having asked (RFC 4861, 6.2.1).
const (
	advertiseEvery = time.Minute
	advertiseLeast = 3 * time.Second // between two
)

// Options say where a server answers.
type Options struct {
	Namespace string // file of the network namespace, as /run/netns/ce-4096; empty: this one
	Device    string // the bridge in it; empty: br
	Log       *slog.Logger
}

// Server answers the guests of one network on this host.
type Server struct {
	opt     Options
	network atomic.Pointer[Network]
	changed chan struct{} // holds a token after a document
	count   map[error]*atomic.Uint64
	told    *rate.Sometimes
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
	s.network.Store(&Network{})
	return s
}

// Set lets a document count from the next packet on. It may be called at any time. An error tells what of the document was left out; the rest
// counts.
func (s *Server) Set(doc desired.Network) error {
	n, err := NewNetwork(doc)
	s.network.Store(n)
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return err
}

// Counts tells how many packets of guests were answered ("answered"), and how many were not, by reason, since the server was made.
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

// Serve opens sockets in the namespace and answers until ctx ends; then it gives nil. An error means that nobody is answered any more, as when
// the bridge of guests went down or away: it may be called again, but never twice at once.
func (s *Server) Serve(ctx context.Context) error {
	b, err := openBridge(s.opt.Namespace, s.opt.Device)
	if err != nil {
		return err
	}
	defer b.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.follow(ctx, g, b) })
	return g.Wait()
}

// line is what one guest is served by.
type line struct {
	sockets
	hangUp context.CancelFunc
}

// follow serves the guests of each document, and advertises the network to them after each, and from time to time.
func (s *Server) follow(ctx context.Context, g *errgroup.Group, b *bridge) error {
	lines := map[MAC]line{}
	for {
		n := s.network.Load()
		if err := s.attend(ctx, g, b, lines, n); err != nil {
			return err
		}
		if p := n.Advertisement(b.link); p != nil {
			for mac, l := range lines {
				s.send(ctx, l.six, mac, p)
			}
		}
		again := false
		for until := time.Now().Add(advertiseLeast); wait(ctx, time.Until(until), s.changed); { // too early to advertise again
			again = true
			if err := s.attend(ctx, g, b, lines, s.network.Load()); err != nil {
				return err
			}
		}
		if !again {
			wait(ctx, advertiseEvery-advertiseLeast, s.changed)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// attend opens lines to guests that have come, and ends those to guests that have gone.
func (s *Server) attend(ctx context.Context, g *errgroup.Group, b *bridge, lines map[MAC]line, n *Network) error {
	for mac, l := range lines {
		if n.guests[mac] == nil {
			l.hangUp()
			delete(lines, mac)
		}
	}
	var come []MAC
	for mac := range n.guests {
		if _, there := lines[mac]; !there {
			come = append(come, mac)
		}
	}
	opened, err := b.open(come)
	if err != nil {
		return err
	}
	for i, mac := range come {
		ctx, hangUp := context.WithCancel(ctx)
		l, limit := line{opened[i], hangUp}, rate.NewLimiter(perSecond, burst)
		lines[mac] = l
		g.Go(func() error { return s.answer(ctx, l.four, limit, (*Network).Answer4) })
		g.Go(func() error { return s.answer(ctx, l.six, limit, b.answer6) })
	}
	return nil
}

// answerer makes the answer to a packet of a card.
type answerer func(*Network, MAC, []byte) ([]byte, error)

// answer6 answers what an IPv6 line lets through.
func (b *bridge) answer6(n *Network, from MAC, p []byte) ([]byte, error) {
	if isICMPv6(p) {
		return n.AnswerRouter(b.link, from, p)
	}
	return n.Answer6(b.link, from, p)
}

// answer answers what comes in by conn, whose packets begin with the network header and whose addresses are *packet.Addr, until ctx ends. It
// closes conn.
func (s *Server) answer(ctx context.Context, conn net.PacketConn, limit *rate.Limiter, how answerer) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, fixed.MaxDatagram)
	for limit.Wait(ctx) == nil {
		size, addr, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		from, ok := addr.(*packet.Addr)
		if !ok || from == nil || len(from.HardwareAddr) != 6 {
			continue
		}
		reply, why := how(s.network.Load(), MAC(from.HardwareAddr), buf[:size])
		if s.count[why].Add(1); why == nil {
			s.send(ctx, conn, MAC(from.HardwareAddr), reply)
		}
	}
	return nil
}

func (s *Server) send(ctx context.Context, conn net.PacketConn, to MAC, p []byte) {
	if _, err := conn.WriteTo(p, &packet.Addr{HardwareAddr: to[:]}); err != nil && ctx.Err() == nil {
		s.told.Do(func() { s.opt.Log.Warn("send to guest", "mac", to, "error", err) })
	}
}

// wait waits for a time, or for an earlier token: then it tells true. It ends early with ctx.
func wait(ctx context.Context, d time.Duration, earlier <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-earlier:
		return true
	}
	return false
}
