package netboot

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/ipv6"
	"pack.ag/tftp"
)

// inNamespace runs f on a thread in a new network namespace with a pair of interfaces, ce-srv and ce-cli, the server's
// address on the first and the first machine's MAC on the second. Sockets that f makes belong to it.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a network namespace: run it as root")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the namespace
		ns, err := netns.New()
		if err == nil {
			defer ns.Close()
			err = linkPair()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func linkPair() error {
	mac, err := net.ParseMAC(macOne)
	if err != nil {
		return err
	}
	err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "ce-srv"}, PeerName: "ce-cli", PeerHardwareAddr: mac})
	if err != nil {
		return err
	}
	for _, name := range []string{"ce-srv", "ce-cli", "lo"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if name == "ce-srv" {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: testServer.AsSlice(), Mask: net.CIDRMask(24, 32)}}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestDHCPOverTheWire(t *testing.T) {
	s := newService(t, func(o *Options) {
		o.Interface = "ce-srv"
		o.TFTPFiles = map[string]string{}
	})
	inNamespace(t, func() error {
		conn, err := server4.NewIPv4UDPConn("ce-srv", &net.UDPAddr{IP: net.IPv4zero, Port: 67})
		if err != nil {
			return err
		}
		running(t, func(ctx context.Context) error { return s.answerDHCP(ctx, conn) })
		// What is no DHCP at all must not stop it.
		junk, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: testServer.AsSlice(), Port: 67})
		if err != nil {
			return err
		}
		defer junk.Close()
		for _, n := range []int{0, 1, 240, 1400, 9000} {
			if _, err := junk.Write(make([]byte, n)); err != nil {
				return err
			}
		}
		client, err := nclient4.New("ce-cli", nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(5))
		if err != nil {
			return err
		}
		defer client.Close()
		lease, err := client.Request(context.Background())
		if err != nil {
			return err
		}
		ack := lease.ACK
		if got := fmt.Sprintln(ack.YourIPAddr, ack.SubnetMask(), ack.ServerIPAddr, ack.HostName(), ack.IPAddressLeaseTime(0)); got !=
			"10.77.0.11 ffffff00 10.77.0.1 host1 24h0m0s\n" {
			return fmt.Errorf("lease %s", got)
		}
		return nil
	})
}

func TestRouterSolicitationOverTheWire(t *testing.T) {
	var log bytes.Buffer
	s := newService(t, func(o *Options) { o.Interface, o.TFTPFiles = "ce-srv", map[string]string{} })
	inNamespace(t, func() error {
		ifi, err := net.InterfaceByName("ce-srv")
		if err != nil {
			return err
		}
		conn, err := s.listenRouter(ifi)
		if err != nil {
			return err
		}
		running(t, func(ctx context.Context) error { return s.answerRouter(ctx, conn, ifi.Index) })
		mac, err := net.ParseMAC(macOne)
		if err != nil {
			return err
		}
		return solicit(mac, &log)
	})
}

// solicit sends solicitations from ce-cli until it gets an advertisement.
func solicit(mac net.HardwareAddr, log io.Writer) error {
	ifi, err := net.InterfaceByName("ce-cli")
	if err != nil {
		return err
	}
	raw, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	defer raw.Close()
	p := ipv6.NewPacketConn(raw)
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterAdvertisement)
	if err := p.SetICMPFilter(&only); err != nil {
		return err
	}
	if err := p.SetMulticastHopLimit(255); err != nil {
		return err
	}
	packet := append([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1}, mac...)
	all := &net.IPAddr{IP: net.ParseIP("ff02::2"), Zone: "ce-cli"}
	buf := make([]byte, 256)
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		if _, err := p.WriteTo(packet, &ipv6.ControlMessage{IfIndex: ifi.Index}, all); err != nil {
			fmt.Fprintln(log, err) // no address before duplicate address detection has ended
		}
		if err := p.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return err
		}
		n, _, _, err := p.ReadFrom(buf)
		if err != nil {
			continue
		}
		if buf[2], buf[3] = 0, 0; !bytes.Equal(buf[:n], noRouter) { // without the checksum
			return fmt.Errorf("advertisement %x", buf[:n])
		}
		return nil
	}
	return fmt.Errorf("no advertisement came (%v)", log)
}

// tftpServer serves two files on a loopback port and returns its address.
func tftpServer(t testing.TB, files map[string][]byte) string {
	t.Helper()
	s := newService(t, nil)
	s.files = files
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().String()
	running(t, func(ctx context.Context) error { return s.answerTFTP(ctx, conn) })
	return addr
}

func TestTFTPWithAForeignClient(t *testing.T) {
	big := make([]byte, 300*1024+17)
	_, _ = rand.Read(big)
	files := map[string][]byte{"small": []byte("hello"), "big": big, "even": big[:1024], "empty": {}}
	addr := tftpServer(t, files)
	for _, opts := range [][]tftp.ClientOpt{nil, {tftp.ClientBlocksize(1400)}, {tftp.ClientBlocksize(65464), tftp.ClientTransferSize(true)}} {
		client, err := tftp.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range files {
			r, err := client.Get("tftp://" + addr + "/" + name)
			if err != nil {
				t.Fatalf("get %s: %v", name, err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes (%v), want %d", name, len(got), err, len(want))
			}
		}
		for _, name := range []string{"none", "../small", "/etc/passwd", "..%2fsmall", strings.Repeat("a", 400)} {
			if _, err := client.Get("tftp://" + addr + "/" + name); err == nil {
				t.Errorf("%q was served", name)
			}
		}
	}
}

func TestTFTPTransfersAreBounded(t *testing.T) {
	addr, err := net.ResolveUDPAddr("udp4", tftpServer(t, map[string][]byte{"file": make([]byte, 4096)}))
	if err != nil {
		t.Fatal(err)
	}
	served := 0
	for range 3 * tftpPerClient { // each asks and then says nothing more
		p, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.WriteTo([]byte("\x00\x01file\x00octet\x00"), addr); err != nil {
			t.Fatal(err)
		}
		patience := 200 * time.Millisecond
		if served < tftpPerClient { // this one must be answered
			patience = 10 * time.Second
		}
		if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.ReadFrom(make([]byte, maxDatagram)); err == nil {
			served++
		}
	}
	if served != tftpPerClient {
		t.Errorf("%d transfers to one client at a time, want %d", served, tftpPerClient)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("\x00\x01undionly.kpxe\x00octet\x00"))
	f.Add([]byte("\x00\x01/ipxe.efi\x00OCTET\x00blksize\x001432\x00tsize\x000\x00"))
	f.Add([]byte("\x00\x02x\x00octet\x00"))
	f.Add([]byte("\x00\x01x\x00octet\x00blksize\x0099999999999\x00"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		req, err := parseReadRequest(packet)
		if err == nil && (req.block != 0 && (req.block < tftpMinBlock || req.block > tftpMaxBlock)) {
			t.Fatalf("block size %d", req.block)
		}
	})
}

func FuzzSolicitor(f *testing.F) {
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0x77, 0, 1})
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, packet []byte) {
		if mac := solicitor(packet); mac != "" && len(mac) != 17 {
			t.Fatalf("MAC %q", mac)
		}
	})
}

func FuzzHTTPPath(f *testing.F) {
	for _, p := range []string{"/ipxe/" + macOne, "/image/../../x", "/blob/..%2f", "/boot/" + macOne + "/initrd.img?image=a"} {
		f.Add(p)
	}
	s := newService(f, nil)
	f.Fuzz(func(t *testing.T, path string) {
		target, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, &http.Request{Method: "GET", URL: target, RemoteAddr: "10.77.0.11:1", Host: "x"})
		if w.Body.Len() > 1<<16 {
			t.Fatalf("answer of %d bytes", w.Body.Len())
		}
	})
}
