package dhcp

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/workers/workertest/segment"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// host is a bridge with a server that answers on it until the test ends.
func host(t testing.TB) (*segment.Segment, *Server) {
	t.Helper()
	seg := segment.New(t, link.String(), "10.1.0.1/24", "fd00:1::1/64")
	s := New(Options{Namespace: seg.Path, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
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
	return seg, s
}

// script writes what a DHCP client calls: it tells the environment, and gives the card its address.
func script(t *testing.T, body string) (path, told string) {
	t.Helper()
	dir := t.TempDir()
	path, told = filepath.Join(dir, "script"), filepath.Join(dir, "told")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CE_TOLD", told)
	return path, told
}

// need finds a client that our own scripts install.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: run go tool task deps", err)
	}
	return path
}

func run(t *testing.T, g *segment.Guest, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	out, err := g.Command(ctx, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("run %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func wantLines(t *testing.T, file string, want ...string) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if !strings.Contains("\n"+string(got), "\n"+w+"\n") {
			t.Errorf("the client was not told %q, but\n%s", w, got)
		}
	}
}

func TestGuestsUdhcpc(t *testing.T) {
	seg, _ := host(t)
	g := seg.Guest(one.String())
	path, told := script(t, `test "$1" = bound || exit 0
env > $CE_TOLD
ip addr add $ip/$mask dev $interface
`)
	run(t, g, need(t, "busybox"), "udhcpc", "-i", segment.Card, "-f", "-n", "-q", "-t", "5", "-T", "1", "-O", "mtu", "-s", path)
	wantLines(t, told, "ip=10.1.0.2", "mask=24", "dns=10.1.0.1", "domain=blue.acme.internal", "hostname=web1", "mtu=1450",
		"lease=3600", "serverid=10.1.0.1")
	if out := run(t, g, "busybox", "ping", "-c", "1", "-W", "5", "10.1.0.1"); !strings.Contains(out, " 0% packet loss") {
		t.Error(out)
	}
}

// TestGuestsDhclient is the client of Debian's images: both families.
func TestGuestsDhclient(t *testing.T) {
	seg, _ := host(t)
	g := seg.Guest(one.String())
	path, told := script(t, `case $reason in
BOUND) env >> $CE_TOLD; ip addr add $new_ip_address/24 dev $interface;;
BOUND6) env >> $CE_TOLD; ip addr add $new_ip6_address/128 dev $interface;;
esac
`)
	files := []string{"-1", "-v", "-sf", path, "-cf", "/dev/null", "-lf", filepath.Join(t.TempDir(), "leases"), "-pf", filepath.Join(t.TempDir(), "pid")}
	client := append([]string{need(t, "dhclient"), "-e", "CE_TOLD=" + told, "-d"}, files...)
	for _, family := range []string{"-4", "-6"} {
		until(t, g, append(client, family, segment.Card), told, map[string]string{"-4": "reason=BOUND", "-6": "reason=BOUND6"}[family])
	}
	wantLines(t, told, "new_ip_address=10.1.0.2", "new_domain_name_servers=10.1.0.1", "new_host_name=web1", "new_domain_name=blue.acme.internal",
		"new_ip6_address=fd00:1::2", "new_dhcp6_name_servers=fd00:1::1", "new_dhcp6_domain_search=blue.acme.internal.")
	// The kernel has taken the advertisement: the subnet is on the link, and it made no address of it.
	within(t, "the subnet on the link", func() bool {
		return strings.Contains(run(t, g, "ip", "-6", "route"), "fd00:1::/64 dev eth0 proto kernel")
	})
	if got := run(t, g, "ip", "-6", "addr", "show", "dev", segment.Card, "scope", "global"); strings.Count(got, "inet6") != 1 {
		t.Errorf("addresses:\n%s", got)
	}
	within(t, "answer over IPv6", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return g.Command(ctx, "busybox", "ping6", "-c", "1", "-W", "2", "fd00:1::1").Run() == nil
	})
	mtu, err := g.Command(context.Background(), "cat", "/proc/sys/net/ipv6/conf/"+segment.Card+"/mtu").Output()
	if err != nil || strings.TrimSpace(string(mtu)) != "1450" {
		t.Errorf("MTU of IPv6 %s, %v", mtu, err)
	}
}

// until runs a client that goes on, until it has told a line.
func until(t *testing.T, g *segment.Guest, args []string, told, line string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := g.Command(ctx, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s", out.Bytes())
		}
	}()
	within(t, line, func() bool {
		got, _ := os.ReadFile(told)
		return strings.Contains("\n"+string(got), "\n"+line+"\n")
	})
}

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for !so() {
		if time.Now().After(end) {
			t.Fatalf("30 s without: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// library asks with u-root's own client, and gives how long that took.
func library(g *segment.Guest, mods ...dhcpv4.Modifier) (*nclient4.Lease, time.Duration, error) {
	var c *nclient4.Client
	err := g.Inside(func() (err error) {
		c, err = nclient4.New(segment.Card, nclient4.WithTimeout(500*time.Millisecond), nclient4.WithRetry(2))
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	begun := time.Now()
	lease, err := c.Request(context.Background(), mods...)
	return lease, time.Since(begun), err
}

func TestGuestsRenewAndReboot(t *testing.T) {
	seg, _ := host(t)
	g := seg.Guest(one.String())
	if lease, _, err := library(g); err != nil || lease.ACK.YourIPAddr.String() != "10.1.0.2" {
		t.Fatalf("%v, %v", lease, err)
	}
	lease, _, err := library(g, dhcpv4.WithBroadcast(true))
	if err != nil || lease.ACK.YourIPAddr.String() != "10.1.0.2" {
		t.Fatalf("with broadcast: %v, %v", lease, err)
	}
	g.SetAddress("10.1.0.2/24")
	err = g.Inside(func() error {
		conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IP{10, 1, 0, 2}, Port: 68}, &net.UDPAddr{IP: net.IP{10, 1, 0, 1}, Port: 67})
		if err != nil {
			return err
		}
		defer conn.Close()
		renewal, err := dhcpv4.NewRenewFromAck(lease.ACK)
		if err != nil {
			return err
		}
		if _, err := conn.Write(renewal.ToBytes()); err != nil {
			return err
		}
		return wantACK(conn, renewal.TransactionID)
	})
	if err != nil {
		t.Errorf("renewal by an ordinary socket: %v", err)
	}
}

func wantACK(conn net.Conn, id dhcpv4.TransactionID) error {
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	m, err := dhcpv4.FromBytes(buf[:n])
	if err != nil || m.TransactionID != id || m.MessageType() != dhcpv4.MessageTypeAck || m.IPAddressLeaseTime(0) != time.Hour {
		return fmt.Errorf("answer %v, %v", m, err)
	}
	return nil
}

// TestAnswersGoOnWithTheLastDocument: nobody says anything any more, and what was answered once is answered again; a new document counts at once.
func TestAnswersGoOnWithTheLastDocument(t *testing.T) {
	seg, s := host(t)
	g := seg.Guest(one.String())
	for range 2 {
		if _, _, err := library(g); err != nil {
			t.Fatal(err)
		}
	}
	doc := document()
	doc.Ports[0].Addresses = []string{"10.1.0.77"}
	if err := s.Set(doc); err != nil {
		t.Fatal(err)
	}
	if lease, _, err := library(g); err != nil || lease.ACK.YourIPAddr.String() != "10.1.0.77" {
		t.Errorf("%v, %v", lease, err)
	}
	doc.Ports[0].Here = false
	if err := s.Set(doc); err != nil {
		t.Fatal(err)
	}
	if lease, _, err := library(g); err == nil {
		t.Errorf("a NIC of another host gets %v", lease.ACK.YourIPAddr)
	}
}

// TestAdvertisedWithoutBeingAsked: by its own frame, after a document and with a source that is the bridge's.
func TestAdvertisedWithoutBeingAsked(t *testing.T) {
	seg, s := host(t)
	g := seg.Guest(one.String())
	var conn *packet.Conn
	err := g.Inside(func() error {
		ifi, err := net.InterfaceByName(segment.Card)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_IPV6, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(document()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		d, ok := parse6(buf[:n], protocolICMPv6)
		if ok && d.data[0] == advertisement && d.to.Addr() == allNodes {
			if d.from.Addr() != linkLocal(link) || d.from.Addr() != netip.MustParseAddr("fe80::ce:ff:fe00:1") {
				t.Errorf("advertised from %v", d.from)
			}
			return
		}
	}
}

// TestServeTellsThatTheBridgeIsGone, or that there never was one.
func TestServeTellsThatTheBridgeIsGone(t *testing.T) {
	seg := segment.New(t, link.String())
	s := New(Options{Namespace: seg.Path, Log: slog.New(slog.DiscardHandler)})
	if err := s.Set(document()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	seg.Remove()
	select {
	case err := <-done:
		if err == nil {
			t.Error("serving ended without a reason")
		}
	case <-time.After(30 * time.Second):
		t.Error("serving goes on without a bridge")
	}
	if err := New(Options{Namespace: "/nowhere", Log: slog.New(slog.DiscardHandler)}).Serve(context.Background()); err == nil {
		t.Error("served in no namespace")
	}
}
