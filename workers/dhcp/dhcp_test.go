package dhcp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"cloudengine/events/desired"
	"cloudengine/workers/dhcp/fixed"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/time/rate"
)

var (
	link = MAC{0x02, 0xce, 0, 0, 0, 1}
	one  = MAC{0, 0x16, 0x3e, 0, 0, 1}
	two  = MAC{0, 0x16, 0x3e, 0, 0, 2}
	away = MAC{0, 0x16, 0x3e, 0, 0, 3}
)

// document has two NICs of this host and one of another.
func document() desired.Network {
	return desired.Network{
		Network: "0190a1b2-0000-7000-8000-000000000001", Name: "blue", Account: "acme", VNI: 4096, MTU: 1450, Want: desired.There,
		Subnets: []desired.Subnet{{Subnet: "s4", CIDR: "10.1.0.0/24", Server: "10.1.0.1"}, {Subnet: "s6", CIDR: "fd00:1::/64", Server: "fd00:1::1"}},
		Ports: []desired.Port{
			{NIC: "n1", Host: "web1", MAC: one.String(), Addresses: []string{"10.1.0.2", "fd00:1::2"}, At: "192.0.2.1", Here: true},
			{NIC: "n2", Host: "web2", MAC: two.String(), Addresses: []string{"10.1.0.3", "fd00:1::3"}, At: "192.0.2.1", Here: true},
			{NIC: "n3", Host: "web3", MAC: away.String(), Addresses: []string{"10.1.0.4", "fd00:1::4"}, At: "192.0.2.2"},
		},
	}
}

func network(t testing.TB, doc desired.Network) *Network {
	t.Helper()
	n, err := NewNetwork(doc)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// packet4 makes the packet of a client without an address.
func packet4(t testing.TB, mac MAC, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) []byte {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac[:]), dhcpv4.WithMessageType(kind)}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return udp4(datagram{from: netip.MustParseAddrPort("0.0.0.0:68"), to: netip.MustParseAddrPort("255.255.255.255:67"), data: m.ToBytes()})
}

func packet6(t testing.TB, mac MAC, kind dhcpv6.MessageType, mods ...dhcpv6.Modifier) []byte {
	t.Helper()
	m := &dhcpv6.Message{MessageType: kind, TransactionID: dhcpv6.TransactionID{1, 2, 3}}
	dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac[:]})(m)
	for _, mod := range mods {
		mod(m)
	}
	return udp6(datagram{from: netip.AddrPortFrom(linkLocal(mac), 546), to: netip.AddrPortFrom(allServers, 547), data: m.ToBytes()})
}

func read4(t *testing.T, p []byte) (*dhcpv4.DHCPv4, datagram) {
	t.Helper()
	d, ok := parse4(p)
	if !ok {
		t.Fatalf("answer %x is no UDP over IPv4", p)
	}
	m, err := dhcpv4.FromBytes(d.data)
	if err != nil {
		t.Fatal(err)
	}
	return m, d
}

func read6(t *testing.T, p []byte) (*dhcpv6.Message, datagram) {
	t.Helper()
	d, ok := parse6(p, protocolUDP)
	if !ok {
		t.Fatalf("answer %x is no UDP over IPv6", p)
	}
	m, err := dhcpv6.MessageFromBytes(d.data)
	if err != nil {
		t.Fatal(err)
	}
	return m, d
}

func TestOfferHasAllOfTheDocument(t *testing.T) {
	p, err := network(t, document()).Answer4(one, packet4(t, one, dhcpv4.MessageTypeDiscover))
	if err != nil {
		t.Fatal(err)
	}
	m, d := read4(t, p)
	if d.from.String() != "10.1.0.1:67" || d.to.String() != "10.1.0.2:68" {
		t.Errorf("offer from %v to %v", d.from, d.to)
	}
	mtu := m.Options.Get(dhcpv4.OptionInterfaceMTU)
	if m.MessageType() != dhcpv4.MessageTypeOffer || m.YourIPAddr.String() != "10.1.0.2" || m.SubnetMask().String() != "ffffff00" ||
		m.ServerIdentifier().String() != "10.1.0.1" || len(m.DNS()) != 1 || m.DNS()[0].String() != "10.1.0.1" || m.DomainName() != "blue.acme.internal" ||
		m.HostName() != "web1" || m.IPAddressLeaseTime(0) != time.Hour || !bytes.Equal(mtu, []byte{1450 >> 8, 1450 & 255}) || m.Router() != nil {
		t.Errorf("offer %s", m.Summary())
	}
}

// TestAGatewayIsTold: the router of the guest's subnet, if it can be one.
func TestAGatewayIsTold(t *testing.T) {
	for router, want := range map[string]bool{"10.1.0.254": true, "10.2.0.1": false, "fd00:1::2": false, "x": false} {
		doc := document()
		doc.Subnets[0].Router = router
		n, err := NewNetwork(doc)
		if (err == nil) != want {
			t.Errorf("router %q: error %v", router, err)
		}
		p, err := n.Answer4(one, packet4(t, one, dhcpv4.MessageTypeDiscover))
		if err != nil {
			t.Fatal(err)
		}
		if m, _ := read4(t, p); (len(m.Router()) == 1 && m.Router()[0].String() == router) != want || !want && m.Router() != nil {
			t.Errorf("router %q: told %v", router, m.Router())
		}
	}
}

func TestAnswersGoWhereClientsListen(t *testing.T) {
	wrong := dhcpv4.OptRequestedIPAddress(net.IP{10, 1, 0, 9})
	n := network(t, document())
	for name, c := range map[string]struct {
		kind dhcpv4.MessageType
		mods []dhcpv4.Modifier
		want string
	}{
		"broadcast asked for": {dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithBroadcast(true)}, "255.255.255.255:68"},
		"renewal":             {dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithClientIP(net.IP{10, 1, 0, 2})}, "10.1.0.2:68"},
		"nak":                 {dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithOption(wrong)}, "255.255.255.255:68"},
		"inform":              {dhcpv4.MessageTypeInform, []dhcpv4.Modifier{dhcpv4.WithClientIP(net.IP{10, 1, 0, 2})}, "10.1.0.2:68"},
	} {
		id := dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("me")))
		p, err := n.Answer4(one, packet4(t, one, c.kind, append(c.mods, id)...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, d := read4(t, p)
		if d.to.String() != c.want {
			t.Errorf("%s: to %v, want %s", name, d.to, c.want)
		}
		if m.ServerIdentifier().String() != "10.1.0.1" || m.ClientHWAddr.String() != one.String() ||
			string(m.Options.Get(dhcpv4.OptionClientIdentifier)) != "me" {
			t.Errorf("%s: %s", name, m.Summary())
		}
		if lease := m.IPAddressLeaseTime(0); (lease != 0) != (name == "broadcast asked for" || name == "renewal") {
			t.Errorf("%s: lease of %v", name, lease)
		}
	}
}

func TestWhoIsNotAnswered(t *testing.T) {
	n := network(t, document())
	discover := func(m MAC) []byte { return packet4(t, m, dhcpv4.MessageTypeDiscover) }
	solicit := func(m MAC) []byte { return packet6(t, m, dhcpv6.MessageTypeSolicit) }
	other := network(t, desired.Network{Network: "x", Ports: document().Ports})
	elsewhere := packet4(t, one, dhcpv4.MessageTypeDiscover)
	copy(elsewhere[16:20], []byte{10, 1, 0, 9})
	var many []dhcpv6.Modifier
	for i := range 100 {
		many = append(many, func(d dhcpv6.DHCPv6) { d.AddOption(&dhcpv6.OptIANA{IaId: [4]byte{byte(i)}}) })
	}
	for name, c := range map[string]struct {
		answer func() ([]byte, error)
		want   error
	}{
		"of another host":      {func() ([]byte, error) { return n.Answer4(away, discover(away)) }, ErrUnknown},
		"of nobody":            {func() ([]byte, error) { return n.Answer4(MAC{2, 2, 2, 2, 2, 2}, discover(one)) }, ErrUnknown},
		"for a neighbour":      {func() ([]byte, error) { return n.Answer4(one, discover(two)) }, ErrForged},
		"release":              {func() ([]byte, error) { return n.Answer4(one, packet4(t, one, dhcpv4.MessageTypeRelease)) }, ErrNotForUs},
		"to another address":   {func() ([]byte, error) { return n.Answer4(one, elsewhere) }, ErrNotForUs},
		"junk":                 {func() ([]byte, error) { return n.Answer4(one, []byte("junk")) }, ErrMalformed},
		"no address":           {func() ([]byte, error) { return other.Answer4(one, discover(one)) }, ErrNoAddress},
		"six, of another host": {func() ([]byte, error) { return n.Answer6(link, away, solicit(away)) }, ErrUnknown},
		"six, a hundred": {func() ([]byte, error) {
			return n.Answer6(link, one, packet6(t, one, dhcpv6.MessageTypeSolicit, many...))
		}, ErrTooLong},
		"six, junk":           {func() ([]byte, error) { return n.Answer6(link, one, []byte("junk")) }, ErrMalformed},
		"six, no subnet":      {func() ([]byte, error) { return other.Answer6(link, one, solicit(one)) }, ErrNotForUs},
		"router, no subnet":   {func() ([]byte, error) { return other.AnswerRouter(link, one, solicitationOf(one)) }, ErrNotForUs},
		"router, a neighbour": {func() ([]byte, error) { return n.AnswerRouter(link, one, solicitationOf(two)) }, ErrForged},
		"router, elsewhere":   {func() ([]byte, error) { return n.AnswerRouter(link, away, solicitationOf(away)) }, ErrUnknown},
	} {
		if p, err := c.answer(); !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: %x, %v; want %v", name, p, err, c.want)
		}
	}
}

func solicitationOf(m MAC) []byte {
	data := append([]byte{solicitation, 0, 0, 0, 0, 0, 0, 0, 1, 1}, m[:]...)
	return icmp6(datagram{from: netip.AddrPortFrom(linkLocal(m), 0), to: netip.MustParseAddrPort("[ff02::2]:0"), data: data})
}

func TestSix(t *testing.T) {
	n := network(t, document())
	ia := func(addrs ...string) dhcpv6.Modifier {
		var list []dhcpv6.OptIAAddress
		for _, a := range addrs {
			list = append(list, dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(a)})
		}
		return dhcpv6.WithIANA(list...)
	}
	us := dhcpv6.WithServerID(n.duid)
	for name, c := range map[string]struct {
		kind    dhcpv6.MessageType
		mods    []dhcpv6.Modifier
		want    dhcpv6.MessageType // none: no answer
		address string
	}{
		"solicit":         {dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{ia()}, dhcpv6.MessageTypeAdvertise, "fd00:1::2"},
		"rapid commit":    {dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{ia(), dhcpv6.WithRapidCommit}, dhcpv6.MessageTypeReply, "fd00:1::2"},
		"request":         {dhcpv6.MessageTypeRequest, []dhcpv6.Modifier{ia("fd00:1::2"), us}, dhcpv6.MessageTypeReply, "fd00:1::2"},
		"renew":           {dhcpv6.MessageTypeRenew, []dhcpv6.Modifier{ia("fd00:1::2"), us}, dhcpv6.MessageTypeReply, "fd00:1::2"},
		"rebind":          {dhcpv6.MessageTypeRebind, []dhcpv6.Modifier{ia("fd00:1::2")}, dhcpv6.MessageTypeReply, "fd00:1::2"},
		"another server":  {dhcpv6.MessageTypeRequest, []dhcpv6.Modifier{ia(), dhcpv6.WithServerID(&dhcpv6.DUIDUUID{})}, 0, ""},
		"information":     {dhcpv6.MessageTypeInformationRequest, nil, dhcpv6.MessageTypeReply, ""},
		"confirm nothing": {dhcpv6.MessageTypeConfirm, []dhcpv6.Modifier{ia()}, 0, ""},
		"confirm":         {dhcpv6.MessageTypeConfirm, []dhcpv6.Modifier{ia("fd00:1::2")}, dhcpv6.MessageTypeReply, ""},
		"release":         {dhcpv6.MessageTypeRelease, []dhcpv6.Modifier{ia("fd00:1::2"), us}, dhcpv6.MessageTypeReply, ""},
		"advertise":       {dhcpv6.MessageTypeAdvertise, nil, 0, ""},
	} {
		p, err := n.Answer6(link, one, packet6(t, one, c.kind, c.mods...))
		if (err != nil) != (c.want == 0) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		m, d := read6(t, p)
		if m.MessageType != c.want || !n.duid.Equal(m.Options.ServerID()) || d.to.Addr() != linkLocal(one) || d.from.Addr() != linkLocal(link) {
			t.Errorf("%s: from %v to %v %s", name, d.from, d.to, m.Summary())
		}
		got := ""
		if m.Options.OneIANA() != nil && m.Options.OneIANA().Options.OneAddress() != nil {
			got = m.Options.OneIANA().Options.OneAddress().IPv6Addr.String()
		}
		if got != c.address {
			t.Errorf("%s: address %q, want %q", name, got, c.address)
		}
		if dns := m.Options.DNS(); (len(dns) == 1) != (name != "confirm" && name != "release") {
			t.Errorf("%s: DNS %v", name, dns)
		}
	}
}

func TestSixTakesBackWhatIsNotTheirs(t *testing.T) {
	n := network(t, document())
	theirs := dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("fd00:1::3")}
	p, err := n.Answer6(link, one, packet6(t, one, dhcpv6.MessageTypeRenew, dhcpv6.WithServerID(n.duid), dhcpv6.WithIANA(theirs)))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := read6(t, p)
	addrs := m.Options.OneIANA().Options.Addresses()
	if len(addrs) != 2 || addrs[0].IPv6Addr.String() != "fd00:1::3" || addrs[0].ValidLifetime != 0 ||
		addrs[1].IPv6Addr.String() != "fd00:1::2" || addrs[1].ValidLifetime != time.Hour {
		t.Errorf("addresses %v", addrs)
	}
	p, err = n.Answer6(link, one, packet6(t, one, dhcpv6.MessageTypeConfirm, dhcpv6.WithIANA(dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("fd00:2::2")})))
	if err != nil {
		t.Fatal(err)
	}
	if m, _ = read6(t, p); m.Options.Status() == nil || m.Options.Status().StatusCode != iana.StatusNotOnLink {
		t.Errorf("confirm of an address of elsewhere: %s", m.Summary())
	}
}

func TestAdvertisement(t *testing.T) {
	n := network(t, document())
	p, err := n.AnswerRouter(link, one, solicitationOf(one))
	if err != nil {
		t.Fatal(err)
	}
	d, ok := parse6(p, protocolICMPv6)
	if !ok || d.to.Addr() != linkLocal(one) || d.hops != 255 {
		t.Fatalf("advertisement %x", p)
	}
	d.data[2], d.data[3] = 0, 0 // the checksum: the kernel checks it in TestGuests
	want := []byte{134, 0, 0, 0, 64, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0xce, 0, 0, 0, 1, 5, 1, 0, 0, 0, 0, 1450 >> 8, 1450 & 255,
		3, 4, 64, 0x80, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0, 0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if !bytes.Equal(d.data, want) {
		t.Errorf("advertisement\n%x, want\n%x", d.data, want)
	}
	doc := document()
	doc.Subnets = doc.Subnets[:1]
	if p := network(t, doc).Advertisement(link); p != nil {
		t.Errorf("a network without IPv6 advertises %x", p)
	}
}

func TestDocumentThatIsNotAllUnderstood(t *testing.T) {
	doc := document()
	doc.Subnets = append(doc.Subnets, desired.Subnet{Subnet: "s", CIDR: "10.2.0.0/24", Server: "10.3.0.1"}, desired.Subnet{CIDR: "x"})
	doc.Ports = append(doc.Ports,
		desired.Port{NIC: "n", MAC: "no", Here: true},
		desired.Port{NIC: "n", MAC: "00:16:3e:00:00:09", Addresses: []string{"no"}, Here: true})
	n, err := NewNetwork(doc)
	if err == nil || n == nil {
		t.Fatalf("%v, %v", n, err)
	}
	if _, err := n.Answer4(one, packet4(t, one, dhcpv4.MessageTypeDiscover)); err != nil {
		t.Errorf("the rest does not count: %v", err)
	}
}

// TestServeEndsWithItsContext also when no packet ever came.
func TestServeEndsWithItsContext(t *testing.T) {
	s := New(Options{Log: slog.New(slog.DiscardHandler)})
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.answer(ctx, conn, rate.NewLimiter(1, 1), (*Network).Answer4) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzAnswer4(f *testing.F) {
	n := network(f, document())
	f.Add(packet4(f, one, dhcpv4.MessageTypeDiscover))
	f.Add(packet4(f, one, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IP{10, 1, 0, 2}))))
	f.Add(packet4(f, one, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IP{10, 1, 0, 2})))
	f.Add(packet4(f, two, dhcpv4.MessageTypeDiscover)[:120])
	f.Fuzz(func(t *testing.T, p []byte) {
		reply, err := n.Answer4(one, p)
		if (reply == nil) == (err == nil) {
			t.Fatalf("%x, %v", reply, err)
		}
		if err != nil {
			return
		}
		d, ok := parse4(reply)
		if !ok || len(d.data) > fixed.MaxDatagram {
			t.Fatalf("answer %x", reply)
		}
		m, err := dhcpv4.FromBytes(d.data)
		if err != nil || MAC(m.ClientHWAddr) != one || m.YourIPAddr.String() != "10.1.0.2" && !m.YourIPAddr.IsUnspecified() {
			t.Fatalf("answer %v, %v", m, err)
		}
	})
}

func FuzzAnswer6(f *testing.F) {
	n := network(f, document())
	f.Add(packet6(f, one, dhcpv6.MessageTypeSolicit, dhcpv6.WithIANA()))
	other := dhcpv6.WithIANA(dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("fd00:1::9")})
	f.Add(packet6(f, one, dhcpv6.MessageTypeRenew, dhcpv6.WithServerID(n.duid), other))
	f.Add(packet6(f, one, dhcpv6.MessageTypeInformationRequest))
	f.Add(packet6(f, one, dhcpv6.MessageTypeConfirm, dhcpv6.WithIANA())[:50])
	f.Fuzz(func(t *testing.T, p []byte) {
		reply, err := n.Answer6(link, one, p)
		if (reply == nil) == (err == nil) {
			t.Fatalf("%x, %v", reply, err)
		}
		if err != nil {
			return
		}
		d, ok := parse6(reply, protocolUDP)
		if !ok || d.to.Addr() != netip.AddrFrom16([16]byte(p[8:24])) {
			t.Fatalf("answer %x", reply)
		}
		if _, err := dhcpv6.MessageFromBytes(d.data); err != nil {
			t.Fatalf("answer %x: %v", reply, err)
		}
	})
}

func FuzzAnswerRouter(f *testing.F) {
	n := network(f, document())
	f.Add(solicitationOf(one))
	f.Add(solicitationOf(two)[:50])
	f.Fuzz(func(t *testing.T, p []byte) {
		if reply, err := n.AnswerRouter(link, one, p); (reply == nil) == (err == nil) || len(reply) > 200 {
			t.Fatalf("%x, %v", reply, err)
		}
	})
}
