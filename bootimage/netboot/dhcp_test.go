package netboot

import (
	"fmt"
	"net"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

func discover(t testing.TB, mac string, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	p, err := dhcpv4.NewDiscovery(hw, mods...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pxe(arch iana.Arch) []dhcpv4.Modifier {
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(fmt.Sprintf("PXEClient:Arch:%05d:UNDI:002001", arch))),
		dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
	}
}

func request(ip net.IP, mods ...dhcpv4.Modifier) []dhcpv4.Modifier {
	return append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip)),
	}, mods...)
}

func TestDHCPReplies(t *testing.T) {
	own, other := net.IP(addrOne.AsSlice()), net.IPv4(10, 77, 0, 200)
	ipxe := append(pxe(iana.INTEL_X86PC), dhcpv4.WithUserClass("iPXE", false))
	cases := map[string]struct {
		mac  string
		mods []dhcpv4.Modifier
		want string // type, address, boot file, destination; "" for silence
	}{
		"bios":             {macOne, pxe(iana.INTEL_X86PC), "OFFER 10.77.0.11 undionly.kpxe 255.255.255.255:68"},
		"uefi":             {macTwo, pxe(iana.EFI_X86_64), "OFFER 10.77.0.12 ipxe.efi 255.255.255.255:68"},
		"uefi_by_bytecode": {macTwo, pxe(iana.EFI_BC), "OFFER 10.77.0.12 ipxe.efi 255.255.255.255:68"},
		"other_processor":  {macOne, pxe(iana.EFI_ARM64), "OFFER 10.77.0.11  255.255.255.255:68"},
		"ipxe":             {macOne, ipxe, "OFFER 10.77.0.11 http://10.77.0.1:8080/ipxe/52:54:00:77:00:01 255.255.255.255:68"},
		"ipxe_rfc3004": {macOne, append(pxe(iana.INTEL_X86PC), dhcpv4.WithUserClass("iPXE", true)),
			"OFFER 10.77.0.11 http://10.77.0.1:8080/ipxe/52:54:00:77:00:01 255.255.255.255:68"},
		"operating_system": {macOne, nil, "OFFER 10.77.0.11  255.255.255.255:68"},
		"unknown":          {macUnknown, ipxe, ""},
		"request":          {macOne, request(own), "ACK 10.77.0.11  255.255.255.255:68"},
		"request_of_other": {macOne, request(other), "NAK 0.0.0.0  255.255.255.255:68"},
		"request_of_two":   {macOne, request(addrTwo.AsSlice()), "NAK 0.0.0.0  255.255.255.255:68"},
		"renewal": {macOne, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(own)},
			"ACK 10.77.0.11  10.77.0.11:68"},
		"inform": {macOne, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeInform), dhcpv4.WithClientIP(own)},
			"ACK 0.0.0.0  10.77.0.11:68"},
		"inform_of_other": {macOne, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeInform), dhcpv4.WithClientIP(other)}, ""},
		"other_server":    {macOne, request(own, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(other))), ""},
		"release":         {macOne, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease)}, ""},
		"relayed":         {macOne, []dhcpv4.Modifier{dhcpv4.WithRelay(other)}, ""},
		"token_ring":      {macOne, []dhcpv4.Modifier{dhcpv4.WithHWType(iana.HWTypeIEEE802)}, ""},
		"is_a_reply":      {macOne, []dhcpv4.Modifier{func(d *dhcpv4.DHCPv4) { d.OpCode = dhcpv4.OpcodeBootReply }}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newService(t, nil)
			reply, to := s.dhcpReply(discover(t, c.mac, c.mods...).ToBytes())
			got := ""
			if reply != nil {
				got = fmt.Sprintf("%s %s %s %s", reply.MessageType(), reply.YourIPAddr, reply.BootFileNameOption(), to)
			}
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestDiscoveredIsToldOnceAMinute(t *testing.T) {
	var told []string
	s := newService(t, func(o *Options) { o.OnDiscovered = func(d Discovered) { told = append(told, d.MAC+" "+d.Class) } })
	evil := dhcpv4.WithOption(dhcpv4.OptClassIdentifier("x\n\x1b[31mevil"))
	for range 3 {
		s.dhcpReply(discover(t, macUnknown, evil).ToBytes())
		s.dhcpReply(discover(t, macOne).ToBytes())
	}
	if fmt.Sprint(told) != "["+macUnknown+" x___31mevil]" {
		t.Errorf("told of %q", told)
	}
	for i := range 3 * maxUnknown {
		s.dhcpReply(discover(t, fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255)).ToBytes())
	}
	if len(s.known.seen) > maxUnknown {
		t.Errorf("%d unknown MACs are remembered", len(s.known.seen))
	}
}

// FuzzDHCP: whatever comes, an answer gives a machine nothing but what is its own.
func FuzzDHCP(f *testing.F) {
	f.Add(discover(f, macOne, pxe(iana.INTEL_X86PC)...).ToBytes())
	f.Add(discover(f, macUnknown).ToBytes())
	f.Add(discover(f, macTwo, request(addrTwo.AsSlice())...).ToBytes())
	s := newService(f, nil)
	f.Fuzz(func(t *testing.T, packet []byte) {
		reply, to := s.dhcpReply(packet)
		if reply == nil {
			return
		}
		own, ok := s.Address(reply.ClientHWAddr.String())
		if !ok || to == nil {
			t.Fatalf("answer to %s", reply.ClientHWAddr)
		}
		if y := reply.YourIPAddr; !y.IsUnspecified() && !y.Equal(own.AsSlice()) {
			t.Fatalf("%s gets %s, not %s", reply.ClientHWAddr, y, own)
		}
		if len(reply.ToBytes()) > 1500 {
			t.Fatalf("answer of %d bytes", len(reply.ToBytes()))
		}
	})
}
