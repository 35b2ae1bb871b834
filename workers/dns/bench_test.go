package dns

import (
	"net"
	"testing"
	"time"

	"cloudengine/workers/netspace"
	"cloudengine/workers/workertest/segment"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"
)

const benchName = "web1.blue.acme.internal."

func echo(req *dns.Msg) *dns.Msg {
	m := (&dns.Msg{}).SetReply(req)
	m.Answer = []dns.RR{&dns.A{Hdr: header(req.Question[0], dns.TypeA), A: one.AsSlice()}}
	return m
}

// BenchmarkAnswer compares an answer with the least that the library needs to make the same one.
func BenchmarkAnswer(b *testing.B) {
	z, q := zone(b, document()), query(b, benchName, dns.TypeA)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := z.Answer(Query{From: one, Data: q}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("echo", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			req := &dns.Msg{}
			if err := req.Unpack(q); err != nil {
				b.Fatal(err)
			}
			if _, err := echo(req).Pack(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkWire asks over the bridge, with 32 queries out at once: us, and a bare server of the same library that says the same to all.
func BenchmarkWire(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		s, g, _ := host(b)
		s.now.Load().clients[one].limit.SetLimit(rate.Inf)
		flood(b, g, "10.1.0.1")
	})
	b.Run("echo", func(b *testing.B) {
		seg := segment.New(b, bridgeMAC, "10.1.0.1/24")
		g := seg.Guest(document().Ports[0].MAC)
		g.SetAddress("10.1.0.2/24")
		var c *net.UDPConn
		err := netspace.Inside(seg.Path, func() (err error) {
			c, err = netspace.ListenUDP("udp4", segment.Device, port)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		up, done := make(chan struct{}), make(chan error, 1)
		srv := &dns.Server{PacketConn: c, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
			_ = w.WriteMsg(echo(req)) // who has asked may be gone
		})}
		go func() { done <- srv.ActivateAndServe() }()
		<-up
		flood(b, g, "10.1.0.1")
		if err := srv.Shutdown(); err != nil {
			b.Error(err)
		}
		<-done
	})
}

func flood(b *testing.B, g *segment.Guest, server string) {
	b.Helper()
	c, err := dial(g, "udp", server, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	q, out, buf := query(b, benchName, dns.TypeA), 0, make([]byte, 1500)
	for b.Loop() {
		for ; out < 32; out++ {
			if _, err := c.Conn.Write(q); err != nil {
				b.Fatal(err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second)) // of a socket that is open
		if _, err := c.Conn.Read(buf); err != nil {
			b.Fatal(err)
		}
		out--
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
}
