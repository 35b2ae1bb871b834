package fixed_test

import (
	"net"
	"net/netip"
	"testing"

	"cloudengine/workers/dhcp/fixed"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var (
	mac    = net.HardwareAddr{0, 0x16, 0x3e, 1, 2, 3}
	server = netip.MustParseAddr("10.0.0.1")
	own    = netip.MustParseAddr("10.0.0.2")
)

func message(t *testing.T, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind)}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestKind(t *testing.T) {
	id := func(ip string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(ip))) }
	asks := func(ip string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(ip)))
	}
	has := func(ip string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(ip)) }
	for name, c := range map[string]struct {
		req  *dhcpv4.DHCPv4
		want dhcpv4.MessageType // 0: none
	}{
		"discover":           {message(t, dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer},
		"selecting":          {message(t, dhcpv4.MessageTypeRequest, id("10.0.0.1"), asks("10.0.0.2")), dhcpv4.MessageTypeAck},
		"selecting another":  {message(t, dhcpv4.MessageTypeRequest, id("10.0.0.9"), asks("10.0.0.2")), 0},
		"init-reboot":        {message(t, dhcpv4.MessageTypeRequest, asks("10.0.0.2")), dhcpv4.MessageTypeAck},
		"init-reboot, wrong": {message(t, dhcpv4.MessageTypeRequest, asks("10.0.0.3")), dhcpv4.MessageTypeNak},
		"renewing":           {message(t, dhcpv4.MessageTypeRequest, has("10.0.0.2")), dhcpv4.MessageTypeAck},
		"renewing, wrong":    {message(t, dhcpv4.MessageTypeRequest, has("10.0.0.3")), dhcpv4.MessageTypeNak},
		"inform":             {message(t, dhcpv4.MessageTypeInform, has("10.0.0.2")), dhcpv4.MessageTypeAck},
		"inform, not ours":   {message(t, dhcpv4.MessageTypeInform, has("10.0.0.3")), 0},
		"release":            {message(t, dhcpv4.MessageTypeRelease, id("10.0.0.1"), has("10.0.0.2")), 0},
		"decline":            {message(t, dhcpv4.MessageTypeDecline, id("10.0.0.1"), asks("10.0.0.2")), 0},
	} {
		if got, ok := fixed.Kind(c.req, server, own); ok != (c.want != 0) || ok && got != c.want {
			t.Errorf("%s: %v %v, want %v", name, got, ok, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := message(t, dhcpv4.MessageTypeDiscover)
	if _, ok := fixed.Parse(good.ToBytes()); !ok {
		t.Error("a good request is refused")
	}
	relayed := message(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.IPv4(10, 0, 0, 9)))
	reply := message(t, dhcpv4.MessageTypeOffer)
	reply.OpCode = dhcpv4.OpcodeBootReply
	for name, p := range map[string][]byte{"relayed": relayed.ToBytes(), "reply": reply.ToBytes(), "short": good.ToBytes()[:200], "empty": nil} {
		if _, ok := fixed.Parse(p); ok {
			t.Errorf("%s is taken", name)
		}
	}
}
