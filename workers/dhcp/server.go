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

// What one NIC may ask, of all three protocols together: a boot takes about ten packets.
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
	now     atomic.Pointer[state]
	changed chan struct{} // holds a token when all guests shall be told
	count   map[error]*atomic.Uint64
	told    *rate.Sometimes
}

// state is what holds between two documents.
type state struct {
	net    *Network
	limits map[MAC]*rate.Limiter // of each guest: nobody else can make it grow
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
	s.now.Store(&state{net: &Network{}})
	return s
}

// Set lets a document count from the next packet on. It may be called at any time, from any goroutine but only one at once. An error tells what
// of the document was left out; the rest counts.
func (s *Server) Set(doc desired.Network) error {
	n, err := NewNetwork(doc)
	old, fresh := s.now.Load().limits, map[MAC]*rate.Limiter{}
	for mac := range n.guests {
		if fresh[mac] = old[mac]; fresh[mac] == nil {
			fresh[mac] = rate.NewLimiter(perSecond, burst)
		}
	}
	s.now.Store(&state{n, fresh})
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return err
}

// Counts tells how many packets were answered ("answered"), and how many were not, by reason, since the server was made.
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
// the bridge went down or away: it may be called again.
func (s *Server) Serve(ctx context.Context) error {
	so, err := open(s.opt.Namespace, s.opt.Device)
	if err != nil {
		return err
	}
	defer so.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.answer(ctx, so.four, s.answer4) })
	g.Go(func() error { return s.answer(ctx, so.six, s.answer6(so.link)) })
	g.Go(func() error { return s.answer(ctx, so.router, s.answerRouter(so.link)) })
	g.Go(func() error { return s.advertise(ctx, so.router, so.link) })
	return g.Wait()
}

func (s *Server) answer4(n *Network, from MAC, p []byte) ([]byte, error) { return n.Answer4(from, p) }

func (s *Server) answer6(link MAC) answerer {
	return func(n *Network, from MAC, p []byte) ([]byte, error) { return n.Answer6(link, from, p) }
}

func (s *Server) answerRouter(link MAC) answerer {
	return func(n *Network, from MAC, p []byte) ([]byte, error) { return n.AnswerRouter(link, from, p) }
}

// answerer makes the answer to a packet of a card.
type answerer func(*Network, MAC, []byte) ([]byte, error)

// answer answers what comes in by conn, whose packets begin with the network header and whose addresses are *packet.Addr, until ctx ends. It
// closes conn.
func (s *Server) answer(ctx context.Context, conn net.PacketConn, how answerer) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, fixed.MaxDatagram)
	for {
		size, addr, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		from, ok := addr.(*packet.Addr)
		if !ok || from == nil || len(from.HardwareAddr) != 6 {
			continue
		}
		reply, why := s.decide(how, MAC(from.HardwareAddr), buf[:size])
		if s.count[why].Add(1); why != nil {
			continue
		}
		if _, err := conn.WriteTo(reply, from); err != nil && ctx.Err() == nil {
			s.told.Do(func() { s.opt.Log.Warn("send answer to guest", "mac", from, "error", err) })
		}
	}
}

// decide looks into packets only of cards that may ask now.
func (s *Server) decide(how answerer, from MAC, p []byte) ([]byte, error) {
	st := s.now.Load()
	limit := st.limits[from]
	if limit == nil {
		return nil, ErrUnknown
	}
	if !limit.Allow() {
		return nil, ErrTooMany
	}
	return how(st.net, from, p)
}

// advertise tells all guests of the network, each in a frame of its own, from time to time and after each change.
func (s *Server) advertise(ctx context.Context, conn net.PacketConn, link MAC) error {
	for {
		st := s.now.Load()
		p := st.net.Advertisement(link)
		for mac := range st.limits {
			if p == nil || ctx.Err() != nil {
				break
			}
			if _, err := conn.WriteTo(p, &packet.Addr{HardwareAddr: mac[:]}); err != nil && ctx.Err() == nil {
				s.told.Do(func() { s.opt.Log.Warn("advertise network to guest", "mac", mac, "error", err) })
			}
		}
		if !wait(ctx, advertiseLeast, nil) || !wait(ctx, advertiseEvery-advertiseLeast, s.changed) {
			return nil
		}
	}
}

// wait waits for a time or an earlier token. False: ctx has ended.
func wait(ctx context.Context, d time.Duration, earlier <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-earlier:
	}
	return true
}
