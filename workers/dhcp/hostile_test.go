package dhcp

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"cloudengine/workers/workertest/segment"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// TestRogueGetsNothing: not under its own address, not under its neighbour's, which does not get anything either.
func TestRogueGetsNothing(t *testing.T) {
	seg, _ := host(t)
	rogue, neighbour := seg.Guest("00:16:3e:66:66:66"), seg.Guest(one.String())
	ears := listener(t, neighbour)
	if lease, _, err := library(rogue); err == nil {
		t.Errorf("a stranger gets %v", lease.ACK.YourIPAddr)
	}
	tap := sender(t, rogue)
	for _, p := range [][]byte{packet4(t, one, dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(true)), packet6(t, one, 1), solicitationOf(one)} {
		frame(t, tap, MAC(rogue.MAC), everybody, p)
	}
	lease, _, err := library(neighbour, dhcpv4.WithBroadcast(true))
	if err != nil || lease.ACK.YourIPAddr.String() != "10.1.0.2" {
		t.Errorf("the neighbour: %v, %v", lease, err)
	}
	for _, p := range ears() { // all that its card got
		if d, ok := parse4(p); ok && d.from.Port() == 67 {
			if m, err := dhcpv4.FromBytes(d.data); err != nil || m.TransactionID != lease.ACK.TransactionID && m.TransactionID != lease.Offer.TransactionID {
				t.Errorf("the neighbour was sent %v", m)
			}
		}
	}
}

// listener keeps what comes in by a guest's card; call it to end that and get it.
func listener(t *testing.T, g *segment.Guest) func() [][]byte {
	t.Helper()
	var conn *packet.Conn
	err := g.Inside(func() error {
		ifi, err := net.InterfaceByName(segment.Card)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan [][]byte, 1)
	go func() {
		var all [][]byte
		buf := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				got <- all
				return
			}
			all = append(all, bytes.Clone(buf[:n]))
		}
	}()
	return func() [][]byte {
		conn.Close()
		return <-got
	}
}

// sender opens a raw socket on a guest's card.
func sender(t *testing.T, g *segment.Guest) *packet.Conn {
	t.Helper()
	var conn *packet.Conn
	err := g.Inside(func() error {
		ifi, err := net.InterfaceByName(segment.Card)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Raw, 0, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

var everybody = MAC{255, 255, 255, 255, 255, 255}

// frame sends a packet from one card to another.
func frame(t *testing.T, conn *packet.Conn, from, to MAC, p []byte) {
	t.Helper()
	ethertype := map[byte][]byte{4: {8, 0}, 6: {0x86, 0xdd}}[p[0]>>4]
	b := append(append(append(append([]byte{}, to[:]...), from[:]...), ethertype...), p...)
	if _, err := conn.WriteTo(b, &packet.Addr{HardwareAddr: to[:]}); err != nil {
		t.Error(err)
	}
}

// TestStormOfOneDelaysNobody: a guest sends as fast as it can while its neighbour asks for its address, again and again. The storm's frames are
// for the bridge: broadcast ones would reach the neighbour's card too, which is not what is looked at here.
func TestStormOfOneDelaysNobody(t *testing.T) {
	seg, s := host(t)
	noisy, neighbour := seg.Guest(two.String()), seg.Guest(one.String())
	ctx, cancel := context.WithCancel(context.Background())
	var sent atomic.Int64
	ended := make(chan struct{})
	tap, p := sender(t, noisy), packet4(t, two, dhcpv4.MessageTypeDiscover)
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			frame(t, tap, two, link, p)
			sent.Add(1)
		}
	}()
	defer func() {
		cancel()
		<-ended
	}()
	within(t, "the storm", func() bool { return sent.Load() > 10000 })
	var worst time.Duration
	begun := time.Now()
	for range 15 { // 30 packets: within its own bound
		lease, took, err := library(neighbour)
		if err != nil || lease.ACK.YourIPAddr.String() != "10.1.0.2" {
			t.Fatalf("in the storm: %v, %v", lease, err)
		}
		worst = max(worst, took)
	}
	lasted := time.Since(begun)
	t.Logf("in a storm of %d packets: 15 leases in %v, one took at most %v; answered %d", sent.Load(), lasted, worst, s.Counts()["answered"])
	if worst > 2*time.Second {
		t.Errorf("an address took %v", worst)
	}
	if all := s.Counts()["answered"]; all > 30+2*burst+uint64(lasted/time.Second+2)*perSecond {
		t.Errorf("%d packets were answered", all)
	}
}
