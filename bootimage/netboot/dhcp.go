package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"cloudengine/workers/dhcp/fixed"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/insomniacslk/dhcp/iana"
)

const (
	biosProgram = "undionly.kpxe"
	efiProgram  = "ipxe.efi"
	leaseTime   = 24 * time.Hour
	// maxDatagram bounds what is read of one packet, in bytes, also of TFTP and ICMPv6.
	maxDatagram = fixed.MaxDatagram
	// maxUnknown bounds the unknown MACs that are remembered, to tell of each once a minute.
	maxUnknown = 1024
)

func (s *Service) serveDHCP(ctx context.Context) error {
	conn, err := server4.NewIPv4UDPConn(s.opt.Interface, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort})
	if err != nil {
		return fmt.Errorf("listen for DHCP on %s: %w", s.opt.Interface, err)
	}
	return s.answerDHCP(ctx, conn)
}

// answerDHCP answers on conn until ctx ends, and closes it.
func (s *Service) answerDHCP(ctx context.Context, conn net.PacketConn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	buf := make([]byte, maxDatagram)
	for {
		n, _, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("read DHCP request: %w", err)
			}
			s.opt.Log.Warn("read DHCP request", "error", err)
			continue
		}
		reply, to := s.dhcpReply(buf[:n])
		if reply == nil {
			continue
		}
		if _, err := conn.WriteTo(reply.ToBytes(), to); err != nil {
			s.opt.Log.Warn("send DHCP reply", "mac", reply.ClientHWAddr, "error", err)
		}
	}
}

// dhcpReply returns the answer to a packet and where it goes; nil if there is none: the packet is malformed, relayed,
// for another server, or from a machine that is not known.
func (s *Service) dhcpReply(packet []byte) (*dhcpv4.DHCPv4, net.Addr) {
	req, ok := fixed.Parse(packet)
	if !ok {
		return nil, nil
	}
	mac := req.ClientHWAddr.String()
	m, addr, ok := s.lookup(mac)
	if !ok {
		s.discovered(mac, req)
		return nil, nil
	}
	kind, ok := fixed.Kind(req, s.opt.ServerAddress, addr)
	if !ok {
		return nil, nil
	}
	reply, err := s.makeReply(req, kind, m, mac, addr)
	if err != nil {
		s.opt.Log.Warn("make DHCP reply", "machine", m.ID, "error", err)
		return nil, nil
	}
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	if kind != dhcpv4.MessageTypeNak && req.ClientIPAddr.Equal(addr.AsSlice()) {
		to.IP = addr.AsSlice() // it has its address: renewal
	}
	return reply, to
}

func (s *Service) makeReply(req *dhcpv4.DHCPv4, kind dhcpv4.MessageType, m Machine, mac string, addr netip.Addr) (*dhcpv4.DHCPv4, error) {
	server := net.IP(s.opt.ServerAddress.AsSlice())
	mods := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server)),
	}
	if kind == dhcpv4.MessageTypeNak {
		mods = append(mods, dhcpv4.WithBroadcast(true))
		return dhcpv4.NewReplyFromRequest(req, mods...)
	}
	mask := net.CIDRMask(s.opt.Network.Bits(), 32)
	mods = append(mods,
		dhcpv4.WithServerIP(server),
		dhcpv4.WithNetmask(mask),
		dhcpv4.WithOption(dhcpv4.OptHostName(printable(m.Name))),
	)
	if req.MessageType() != dhcpv4.MessageTypeInform {
		mods = append(mods, dhcpv4.WithYourIP(addr.AsSlice()), dhcpv4.WithLeaseTime(uint32(leaseTime/time.Second)))
	}
	return dhcpv4.NewReplyFromRequest(req, append(mods, s.bootOptions(req, mac)...)...)
}

// bootOptions says what to boot: iPXE (it says so in its user class) gets its script, a plain PXE ROM gets iPXE, and an
// operating system's client nothing.
func (s *Service) bootOptions(req *dhcpv4.DHCPv4, mac string) []dhcpv4.Modifier {
	bootFile := func(name string) []dhcpv4.Modifier {
		return []dhcpv4.Modifier{
			func(d *dhcpv4.DHCPv4) { d.BootFileName = name },
			dhcpv4.WithOption(dhcpv4.OptBootFileName(name)),
		}
	}
	if bytes.Contains(req.Options.Get(dhcpv4.OptionUserClassInformation), []byte("iPXE")) {
		// Encapsulated iPXE option 176, no-proxydhcp: without it iPXE waits for a proxy server.
		return append(bootFile(s.opt.HTTP+"/ipxe/"+mac), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(175), []byte{176, 1, 1}))
	}
	if !bytes.HasPrefix(req.Options.Get(dhcpv4.OptionClassIdentifier), []byte("PXEClient")) {
		return nil
	}
	program := biosProgram
	if archs := req.ClientArch(); len(archs) > 0 {
		switch archs[0] {
		case iana.INTEL_X86PC:
		case iana.EFI_X86_64, iana.EFI_BC:
			program = efiProgram
		default:
			return nil
		}
	}
	return append(bootFile(program),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient")),
		dhcpv4.WithOption(dhcpv4.OptTFTPServerName(s.opt.ServerAddress.String())),
		// PXE 2.1, option 43.6 = 8: no boot server discovery, just take the file named here.
		dhcpv4.WithGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
}

// discoveries remembers when each unknown MAC was told of.
type discoveries struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func newDiscoveries() *discoveries { return &discoveries{seen: map[string]time.Time{}} }

// first tells whether a MAC is to be told of now. When the memory is full of young entries it says no.
func (d *discoveries) first(mac string, now time.Time, every time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, ok := d.seen[mac]; ok && now.Sub(last) < every {
		return false
	}
	if len(d.seen) >= maxUnknown {
		for k, t := range d.seen {
			if now.Sub(t) >= every {
				delete(d.seen, k)
			}
		}
	}
	if len(d.seen) >= maxUnknown {
		return false
	}
	d.seen[mac] = now
	return true
}

func (s *Service) discovered(mac string, req *dhcpv4.DHCPv4) {
	if req.MessageType() == dhcpv4.MessageTypeDiscover {
		s.tellUnknown(mac, printable(string(req.Options.Get(dhcpv4.OptionClassIdentifier))))
	}
}

// tellUnknown tells of a MAC that is not known, once a minute.
func (s *Service) tellUnknown(mac, class string) {
	now := s.opt.Now().UTC()
	if !s.known.first(mac, now, time.Minute) {
		return
	}
	s.opt.Log.Info("an unknown machine asks for an address", "mac", mac, "class", class)
	if s.opt.OnDiscovered != nil {
		s.opt.OnDiscovered(Discovered{MAC: mac, Class: class, Time: now})
	}
}
