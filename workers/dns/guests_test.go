package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloudengine/events/desired"
	"cloudengine/workers/workertest/segment"

	"github.com/miekg/dns"
)

const bridgeMAC = "02:ce:00:00:00:01"

// host is a bridge with a server that answers on it until the test ends, and a guest for each NIC that is here.
func host(t testing.TB, upstream ...string) (s *Server, first, second *segment.Guest) {
	t.Helper()
	seg := segment.New(t, bridgeMAC, "10.1.0.1/24", "fd00:1::1/64")
	s = New(Options{Namespace: seg.Path, Upstream: upstream, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err := s.Set(document()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	ports := document().Ports
	first, second = seg.Guest(ports[0].MAC), seg.Guest(ports[1].MAC)
	first.SetAddress("10.1.0.2/24")
	first.SetAddress("fd00:1::2/64")
	second.SetAddress("10.1.0.3/24")
	second.SetAddress("fd00:1::3/64")
	eventually(t, "answers", func() bool {
		a, errA := ask1(first, "udp", "10.1.0.1", "web1.blue.acme.internal.", dns.TypeA)
		b, errB := ask1(second, "tcp", "fd00:1::1", "web1.blue.acme.internal.", dns.TypeA)
		return errA == nil && errB == nil && a.Rcode == 0 && b.Rcode == 0
	})
	return s, first, second
}

func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for !so() {
		if time.Now().After(end) {
			t.Fatalf("30 s without: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// dial opens a connection of a guest.
func dial(g *segment.Guest, network, server string, from net.IP) (c *dns.Conn, err error) {
	err = g.Inside(func() error {
		d := net.Dialer{Timeout: time.Second, FallbackDelay: -1}
		if from != nil {
			d.LocalAddr = &net.UDPAddr{IP: from}
		}
		conn, err := d.Dial(network, net.JoinHostPort(server, "53"))
		c = &dns.Conn{Conn: conn, UDPSize: 4096}
		return err
	})
	return c, err
}

// ask1 asks once, within half a second.
func ask1(g *segment.Guest, network, server, name string, kind uint16) (*dns.Msg, error) {
	c, err := dial(g, network, server, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	reply, _, err := (&dns.Client{Net: network, Timeout: 500 * time.Millisecond}).ExchangeWithConn((&dns.Msg{}).SetQuestion(name, kind), c)
	return reply, err
}

func saidBy(t *testing.T, m *dns.Msg, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return said(t, p)
}

func TestGuestsAsk(t *testing.T) {
	_, g, _ := host(t)
	for _, network := range []string{"udp", "tcp"} {
		for _, server := range []string{"10.1.0.1", "fd00:1::1"} {
			m, err := ask1(g, network, server, "DB.blue.acme.internal.", dns.TypeA)
			if got := saidBy(t, m, err); got != "NOERROR aa; A 10.1.0.4; A 10.1.0.5" {
				t.Errorf("over %s at %s: %s", network, server, got)
			}
			if m, err = ask1(g, network, server, "example.org.", dns.TypeA); saidBy(t, m, err) != "REFUSED" {
				t.Errorf("of elsewhere: %v", saidBy(t, m, err))
			}
		}
	}
	c, err := dial(g, "tcp", "10.1.0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 { // several on one connection
		m, _, err := (&dns.Client{Net: "tcp"}).ExchangeWithConn((&dns.Msg{}).SetQuestion("web2.blue.acme.internal.", dns.TypeA), c)
		if got := saidBy(t, m, err); got != "NOERROR aa; A 10.1.0.3" {
			t.Error(got)
		}
	}
}

// TestGuestsDig are the programs that people have: dig, and the C library's resolver, with what DHCP has told it.
func TestGuestsDig(t *testing.T) {
	_, g, _ := host(t)
	for _, name := range []string{"dig", "getent"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%v: run go tool task deps", err)
		}
	}
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 10.1.0.1\nsearch blue.acme.internal\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := "mount --bind " + conf + " /etc/resolv.conf && exec "
	for command, want := range map[string]string{
		"dig +short @10.1.0.1 db.blue.acme.internal A":             "10.1.0.4 10.1.0.5",
		"dig +short +tcp @fd00:1::1 web2.blue.acme.internal AAAA":  "fd00:1::3",
		"dig +short -x 10.1.0.3 @10.1.0.1":                         "web2.blue.acme.internal.",
		"dig +short -x fd00:1::5 @10.1.0.1":                        "db.blue.acme.internal.",
		"dig +noall +comments @10.1.0.1 nobody.blue.acme.internal": "NXDOMAIN",
		"getent ahostsv4 web2":                                     "10.1.0.3",
		"getent hosts 10.1.0.4":                                    "db.blue.acme.internal",
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		out, err := g.Command(ctx, "unshare", "-m", "sh", "-c", inside+command).CombinedOutput()
		cancel()
		for _, w := range strings.Fields(want) {
			if err != nil || !strings.Contains(string(out), w) {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
		}
	}
}

// TestStrangersGetNothing: an address that no NIC of this host has.
func TestStrangersGetNothing(t *testing.T) {
	s, g, _ := host(t)
	g.SetAddress("10.1.0.4/24") // of another host
	c, err := dial(g, "udp", "10.1.0.1", net.IP{10, 1, 0, 4})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, _, err := (&dns.Client{Timeout: 500 * time.Millisecond}).ExchangeWithConn((&dns.Msg{}).SetQuestion("web1.blue.acme.internal.", dns.TypeA), c)
	if err == nil {
		t.Errorf("answered: %v", m)
	}
	if m, err := ask1(g, "udp", "10.1.0.1", "web1.blue.acme.internal.", dns.TypeA); err != nil {
		t.Errorf("under its own address: %v, %v", m, err)
	}
	doc := document()
	doc.Ports[2].Here = true // it has come here
	if err := s.Set(doc); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an answer to who has come", func() bool {
		_, _, err := (&dns.Client{Timeout: 500 * time.Millisecond}).ExchangeWithConn((&dns.Msg{}).SetQuestion("web1.blue.acme.internal.", dns.TypeA), c)
		return err == nil
	})
}

// TestStormOfOneDelaysNobody: a guest asks as fast as it can while its neighbour asks now and then.
func TestStormOfOneDelaysNobody(t *testing.T) {
	s, noisy, neighbour := host(t)
	q := query(t, "db.blue.acme.internal.", dns.TypeA)
	c, err := dial(noisy, "udp", "10.1.0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := c.Conn.Write(q); err != nil {
				return // it is closed
			}
			sent.Add(1)
		}
	}()
	defer func() {
		c.Close()
		<-ended
	}()
	begun, before := time.Now(), s.Counts()["answered"]
	eventually(t, "the storm", func() bool { return sent.Load() > 20*burst })
	var worst time.Duration
	for range 100 {
		at := time.Now()
		m, err := ask1(neighbour, "udp", "10.1.0.1", "web1.blue.acme.internal.", dns.TypeA)
		if got := saidBy(t, m, err); got != "NOERROR aa; A 10.1.0.2" {
			t.Fatalf("in the storm: %s", got)
		}
		worst = max(worst, time.Since(at))
	}
	lasted, answered := time.Since(begun), s.Counts()["answered"]-before
	t.Logf("in a storm of %d queries in %v: an answer took at most %v; %d were answered", sent.Load(), lasted, worst, answered)
	if most := 100 + burst + perSecond*(lasted.Seconds()+1); float64(answered) > most {
		t.Errorf("%d were answered, want at most %.0f", answered, most)
	}
}

// TestAnswersGoOnWithTheLastDocument, and a new one counts at once.
func TestAnswersGoOnWithTheLastDocument(t *testing.T) {
	s, g, _ := host(t)
	doc := document()
	doc.Ports = append(doc.Ports, desired.Port{NIC: "n9", Host: "new", Addresses: []string{"10.1.0.9"}})
	if err := s.Set(doc); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		m, err := ask1(g, "udp", "10.1.0.1", "new.blue.acme.internal.", dns.TypeA)
		if got := saidBy(t, m, err); got != "NOERROR aa; A 10.1.0.9" {
			t.Error(got)
		}
	}
}

// upstream is a resolver in our own namespace that knows example.org., and tells what it was asked.
func upstream(t *testing.T) (address string, asked func() []string) {
	t.Helper()
	names := make(chan string, 100)
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		names <- req.Question[0].Name
		m := (&dns.Msg{}).SetReply(req)
		if req.Question[0].Name == "example.org." {
			rr, err := dns.NewRR("example.org. 60 IN A 192.0.2.7")
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m) // who has asked may be gone
	})
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: answer}, {Listener: l, Handler: answer}} {
		up, done := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(up) }
		go func() { done <- srv.ActivateAndServe() }()
		<-up
		t.Cleanup(func() {
			if err := srv.Shutdown(); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
	return pc.LocalAddr().String(), func() []string {
		var all []string
		for len(names) > 0 {
			all = append(all, <-names)
		}
		return all
	}
}

func TestUpstream(t *testing.T) {
	address, asked := upstream(t)
	_, g, _ := host(t, "127.0.0.1:1", address) // the first one is not there
	for _, network := range []string{"udp", "tcp"} {
		m, err := ask1(g, network, "10.1.0.1", "example.org.", dns.TypeA)
		if got := saidBy(t, m, err); got != "NOERROR; A 192.0.2.7" {
			t.Errorf("over %s: %s", network, got)
		}
		for name, want := range map[string]string{
			"web1.blue.acme.internal.": "NOERROR aa; A 10.1.0.2", "web1.red.acme.internal.": "REFUSED", "9.9.9.10.in-addr.arpa.": "REFUSED",
		} {
			m, err := ask1(g, network, "10.1.0.1", name, dns.TypeA)
			if got := saidBy(t, m, err); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
	if got := fmt.Sprint(asked()); got != "[example.org. example.org.]" {
		t.Errorf("upstream was asked for %s", got)
	}
}

func TestUpstreamIsAway(t *testing.T) {
	_, g, _ := host(t, "127.0.0.1:1")
	m, err := ask1(g, "udp", "10.1.0.1", "example.org.", dns.TypeA)
	if got := saidBy(t, m, err); got != "SERVFAIL" {
		t.Error(got)
	}
}
