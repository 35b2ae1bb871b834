package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// card is the only NIC that is used.
const card = "eth0"

// echoPort answers what it is sent, over TCP.
const echoPort = 7

// network sets the NIC up by DHCP, answers others, and says at each tick which of them it reaches. peers are names in its own domain, with commas
// between them; one that is to be out of reach may be an address.
func network(peers string) {
	l, err := lease()
	if err != nil {
		fmt.Printf("guest: net: %v\n", err)
		return
	}
	if err := l.use(); err != nil {
		fmt.Printf("guest: net: %v\n", err)
		return
	}
	fmt.Printf("guest: net %s mac=%s address=%s dns=%s domain=%s host=%s mtu=%d\n", card, l.mac, &l.address, l.dns, l.domain, l.host, l.mtu)
	go answer()
	for {
		for _, peer := range strings.Split(peers, ",") {
			if peer != "" {
				fmt.Println(l.reach(peer))
			}
		}
		time.Sleep(tick / 2)
	}
}

// answer sends back what comes.
func answer() {
	s, err := net.Listen("tcp", ":"+strconv.Itoa(echoPort))
	if err != nil {
		fmt.Printf("guest: net: %v\n", err)
		return
	}
	for {
		c, err := s.Accept()
		if err != nil {
			fmt.Printf("guest: net: %v\n", err)
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.Copy(c, c)
		}()
	}
}

// reach looks a peer up, sends it something over TCP and compares what comes back.
func (l leased) reach(peer string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	began, address := time.Now(), peer
	if net.ParseIP(peer) == nil {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(l.dns.String(), "53"))
		}}
		all, err := r.LookupIP(ctx, "ip4", peer+"."+l.domain+".")
		if err != nil {
			return fmt.Sprintf("guest: reach %s name: %v", peer, err)
		}
		address = all[0].String()
	}
	if err := echo(ctx, address); err != nil {
		return fmt.Sprintf("guest: reach %s at %s: %v", peer, address, err)
	}
	return fmt.Sprintf("guest: reach %s at %s ok ms=%d", peer, address, time.Since(began).Milliseconds())
}

// echoed is more than one packet holds.
var echoed = []byte(strings.Repeat("echo this back to me ", 200))

func echo(ctx context.Context, address string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp4", net.JoinHostPort(address, strconv.Itoa(echoPort)))
	if err != nil {
		return err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	if _, err := c.Write(echoed); err != nil {
		return err
	}
	back := make([]byte, len(echoed))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if string(back) != string(echoed) {
		return errors.New("it sends something else back")
	}
	return nil
}

// leased is what a DHCP server gave.
type leased struct {
	mac     net.HardwareAddr
	address net.IPNet
	server  net.IP
	dns     net.IP
	domain  string
	host    string
	mtu     int
}

// Messages and options of DHCP (RFC 2131, RFC 2132).
const (
	discover, offer, request, ack = 1, 2, 3, 5

	optMask, optDNS, optHost, optDomain, optMTU, optWanted, optKind, optServer, optList, optEnd = 1, 6, 12, 15, 26, 50, 53, 54, 55, 255
)

var cookie = []byte{99, 130, 83, 99}

// lease asks until a server answers. It has the answers sent to all, as it has no address to send them to.
func lease() (leased, error) {
	if err := flags(card, unix.IFF_UP); err != nil {
		return leased{}, err
	}
	i, err := net.InterfaceByName(card)
	if err != nil {
		return leased{}, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var errs [2]error
		err := c.Control(func(fd uintptr) {
			errs[0] = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, card)
			errs[1] = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
		})
		return errors.Join(err, errs[0], errs[1])
	}}
	c, err := lc.ListenPacket(context.Background(), "udp4", "0.0.0.0:68")
	if err != nil {
		return leased{}, err
	}
	defer c.Close()
	for {
		o, ok := ask(c, i.HardwareAddr, discover, offer, nil)
		if !ok {
			fmt.Println("guest: net: nobody offers an address")
			continue
		}
		wanted := append([]byte{optWanted, 4}, o.address.IP.To4()...)
		wanted = append(append(wanted, optServer, 4), o.server.To4()...)
		if l, ok := ask(c, i.HardwareAddr, request, ack, wanted); ok {
			return l, nil
		}
	}
}

// ask sends one message and waits for the answer to it.
func ask(c net.PacketConn, mac net.HardwareAddr, kind, wanted byte, more []byte) (leased, bool) {
	id := uint32(time.Now().UnixNano())
	b := make([]byte, 236, 300)
	b[0], b[1], b[2], b[10] = 1, 1, 6, 0x80
	binary.BigEndian.PutUint32(b[4:], id)
	copy(b[28:], mac)
	b = append(append(b, cookie...), optKind, 1, kind, optList, 5, optMask, optDNS, optHost, optDomain, optMTU)
	b = append(append(b, more...), optEnd)
	if _, err := c.WriteTo(b, &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
		fmt.Printf("guest: net: %v\n", err)
		time.Sleep(time.Second)
		return leased{}, false
	}
	end := time.Now().Add(4 * time.Second)
	for buf := make([]byte, 1500); time.Now().Before(end); {
		_ = c.SetReadDeadline(end)
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return leased{}, false
		}
		if l, got, ok := readAnswer(buf[:n], id); ok && got == wanted {
			l.mac = mac
			return l, true
		}
	}
	return leased{}, false
}

// readAnswer reads a server's message with an id.
func readAnswer(b []byte, id uint32) (l leased, kind byte, ok bool) {
	if len(b) < 240 || b[0] != 2 || binary.BigEndian.Uint32(b[4:]) != id || string(b[236:240]) != string(cookie) {
		return l, 0, false
	}
	l.address.IP = net.IP(append([]byte(nil), b[16:20]...))
	for rest := b[240:]; len(rest) >= 2 && rest[0] != optEnd; {
		if rest[0] == 0 {
			rest = rest[1:]
			continue
		}
		n := int(rest[1])
		if len(rest) < 2+n {
			return l, 0, false
		}
		v := append([]byte(nil), rest[2:2+n]...)
		switch code := rest[0]; {
		case code == optKind && n == 1:
			kind = v[0]
		case code == optMask && n == 4:
			l.address.Mask = v
		case code == optDNS && n >= 4:
			l.dns = v[:4]
		case code == optServer && n == 4:
			l.server = v
		case code == optHost:
			l.host = string(v)
		case code == optDomain:
			l.domain = strings.TrimRight(string(v), "\x00.")
		case code == optMTU && n == 2:
			l.mtu = int(binary.BigEndian.Uint16(v))
		}
		rest = rest[2+n:]
	}
	return l, kind, l.address.Mask != nil && l.server != nil
}

// use gives the card what was leased (netdevice(7)).
func (l leased) use() error {
	mask := net.IP(l.address.Mask)
	if err := setAddress(unix.SIOCSIFADDR, l.address.IP); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if err := setAddress(unix.SIOCSIFNETMASK, mask); err != nil {
		return fmt.Errorf("set mask: %w", err)
	}
	return nil
}

func setAddress(request uint, ip net.IP) error {
	return onCard(func(fd int, r *unix.Ifreq) error {
		if err := r.SetInet4Addr(ip.To4()); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, request, r)
	})
}

// flags sets flags of a card, which may be about to appear.
func flags(name string, more uint16) error {
	for range 30 {
		if _, err := os.Stat("/sys/class/net/" + name); err == nil {
			break
		}
		time.Sleep(time.Second) // the driver finds it by itself
	}
	return onCard(func(fd int, r *unix.Ifreq) error {
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
			return fmt.Errorf("read flags of %s: %w", name, err)
		}
		r.SetUint16(r.Uint16() | more)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
	})
}

func onCard(do func(fd int, r *unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(card)
	if err != nil {
		return err
	}
	return do(fd, r)
}
