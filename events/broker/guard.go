package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/time/rate"
)

// Limits keep one client, or one address, from taking what all need. The zero value of a field is its default.
type Limits struct {
	HelloRate   float64       // TLS handshakes per second of one address; 100. Four times as many may come at once
	Strangers   int           // connections of one address that have not said who they are; 256. The oldest are closed
	PerUser     int           // connections of one user; 1,024. The oldest is closed
	PerMachine  int           // of one machine, and of one that enrols; 8
	UserMsgs    int           // messages per second of a user; 30,000. Who sends more for two looks in a row is disconnected and kept out
	MachineMsgs int           // of a machine; 4,000
	MachineMB   int           // 10^6 bytes per second of a machine; 32
	Penalty     time.Duration // for how long; 5 s, and twice as long each time that it happens again within minutes, up to 80 s
}

func (l *Limits) setDefaults() {
	for field, value := range map[*int]int{&l.Strangers: 256, &l.PerUser: 1024, &l.PerMachine: 8, &l.UserMsgs: 30_000, &l.MachineMsgs: 4_000, &l.MachineMB: 32} {
		if *field == 0 {
			*field = value
		}
	}
	if l.HelloRate == 0 {
		l.HelloRate = 100
	}
	if l.Penalty == 0 {
		l.Penalty = 5 * time.Second
	}
}

// guard applies the limits. It is safe for concurrent use.
type guard struct {
	limits Limits

	mu    sync.Mutex
	hello map[netip.Addr]*rate.Limiter
	out   map[string]barred

	seen    map[uint64]traffic // by connection id; these are of look alone
	looked  time.Time
	strikes map[string]int // by actor
}

// barred is an actor that is or was kept out.
type barred struct {
	until time.Time
	times int
}

// traffic is what a connection had sent when it was last looked at, or what an actor has sent since.
type traffic struct{ msgs, bytes int64 }

func newGuard(l Limits) *guard {
	l.setDefaults()
	return &guard{limits: l, hello: map[netip.Addr]*rate.Limiter{}, out: map[string]barred{}, seen: map[uint64]traffic{}, strikes: map[string]int{}}
}

var errHellos = errors.New("too many connections from this address")

const guardPeriod = 250 * time.Millisecond // between two looks at the connections

// admit is asked at the first message of a TLS client, before anything is computed for it.
func (g *guard) admit(h *tls.ClientHelloInfo) error {
	from, err := netip.ParseAddrPort(h.Conn.RemoteAddr().String())
	if err != nil {
		return nil // in-process
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := from.Addr().Unmap()
	l := g.hello[a]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(g.limits.HelloRate), int(4*g.limits.HelloRate))
		g.hello[a] = l
	}
	if !l.Allow() {
		return errHellos
	}
	return nil
}

// barred says whether an actor is kept out for now.
func (g *guard) barred(actor string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.out[actor].until)
}

// most is how many connections an actor may have.
func (g *guard) most(actor string) int {
	if isMachineActor(actor) {
		return g.limits.PerMachine
	}
	return g.limits.PerUser
}

func isMachineActor(actor string) bool {
	return strings.HasPrefix(actor, "machine:") || strings.HasPrefix(actor, "enrol:")
}

// watch looks at the connections until ctx ends.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(guardPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look()
		}
	}
}

// look closes what is too much.
func (s *Server) look() {
	list, err := s.bus.Connz(&server.ConnzOptions{Limit: 1 << 20, Sort: server.ByCid, State: server.ConnOpen})
	if err != nil {
		s.opts.Logger.Warn("connections cannot be looked at", "err", err)
		return
	}
	g, now := s.auth.guard, time.Now()
	live := s.auth.actors()
	strangers := map[string][]uint64{}
	sent, next := map[string]traffic{}, make(map[uint64]traffic, len(list.Conns))
	for _, c := range list.Conns { // the oldest first
		actor, known := live[c.Cid]
		switch {
		case !known && now.Sub(c.Start) > 250*time.Millisecond && isAddress(c.IP):
			strangers[c.IP] = append(strangers[c.IP], c.Cid)
		case known:
			t, was, sum := traffic{c.InMsgs, c.InBytes}, g.seen[c.Cid], sent[actor]
			next[c.Cid], sent[actor] = t, traffic{sum.msgs + t.msgs - was.msgs, sum.bytes + t.bytes - was.bytes}
		}
	}
	for _, actor := range g.judge(sent, next, now) {
		s.opts.Logger.Warn("a client sends too much and is kept out for a while", "client", actor)
		s.auth.kick(func(k client) bool { return k.actor == actor })
	}
	for address, ids := range strangers {
		if n := len(ids) - g.limits.Strangers; n > 0 {
			s.opts.Logger.Warn("an address holds connections open and does not say who it is", "address", address, "closed", n)
			for _, id := range ids[:n] {
				_ = s.bus.DisconnectClientByID(id) // it may be gone
			}
		}
	}
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// judge compares what actors have sent with the last look, and gives those who sent too much twice in a row. They are kept out now.
func (g *guard) judge(sent map[string]traffic, next map[uint64]traffic, now time.Time) (over []string) {
	span := max(now.Sub(g.looked).Seconds(), 0.01)
	strikes := map[string]int{}
	for actor, t := range sent {
		msgs, bytes := float64(t.msgs)/span, float64(t.bytes)/span
		much := msgs > float64(g.limits.UserMsgs)
		if isMachineActor(actor) {
			much = msgs > float64(g.limits.MachineMsgs) || bytes > 1e6*float64(g.limits.MachineMB)
		}
		if !much || g.looked.IsZero() {
			continue
		}
		if strikes[actor] = g.strikes[actor] + 1; strikes[actor] >= 2 {
			over = append(over, actor)
		}
	}
	g.seen, g.strikes, g.looked = next, strikes, now
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, actor := range over {
		n := g.out[actor].times
		g.out[actor] = barred{now.Add(g.limits.Penalty << min(n, 4)), n + 1}
	}
	g.forget(now)
	return over
}

// forget drops what has no meaning any more. The lock is held.
func (g *guard) forget(now time.Time) {
	for actor, b := range g.out {
		if now.Sub(b.until) > 5*time.Minute {
			delete(g.out, actor)
		}
	}
	if len(g.hello) < 1024 {
		return
	}
	for a, l := range g.hello {
		if l.Tokens() >= float64(l.Burst()) {
			delete(g.hello, a)
		}
	}
}

// actors gives who the live connections belong to.
func (a *authenticator) actors() map[uint64]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[uint64]string, len(a.live))
	for id, c := range a.live {
		out[id] = c.actor
	}
	return out
}

// crowded gives the oldest connections of one who has too many. Connections that enrol count by token: others may guess at tokens.
func (a *authenticator) crowded(who client) []uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []uint64
	for id, c := range a.live {
		if c.actor == who.actor && (c.key == who.key || !strings.HasPrefix(c.actor, "enrol:")) && a.bus.GetClient(id) != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	n := len(ids) - a.guard.most(who.actor)
	if n <= 0 {
		return nil
	}
	for _, id := range ids[:n] {
		delete(a.live, id)
	}
	return ids[:n]
}

// Connections counts the open connections, our own and those of strangers too.
func (s *Server) Connections() int { return s.bus.NumClients() }
