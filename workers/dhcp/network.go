package dhcp

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"cloudengine/events/desired"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Why a packet is not answered.
var (
	ErrMalformed = errors.New("malformed")
	ErrUnknown   = errors.New("no NIC of this host")
	ErrForged    = errors.New("it speaks of another hardware address than its frame is from")
	ErrNotForUs  = errors.New("for another server, or not a question")
	ErrNoAddress = errors.New("its NIC has no address of that family")
	ErrTooLong   = errors.New("its answer would be longer than a packet of the network")
)

// reasons lists all of them.
var reasons = []error{ErrMalformed, ErrUnknown, ErrForged, ErrNotForUs, ErrNoAddress, ErrTooLong}

// What guests are told of how long their addresses are good for. Each answer gives the whole time anew.
const (
	leaseTime  = time.Hour
	renewTime  = leaseTime / 2
	rebindTime = leaseTime * 7 / 8
)

// MAC is the hardware address of an Ethernet card.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Network is a document, made ready to answer from. It is never changed.
type Network struct {
	guests map[MAC]*guest // of this host
	six    []six          // its IPv6 subnets, in the document's order
	zone   string         // domain of its guests, without a dot at the end
	mtu    int            // bytes
	duid   dhcpv6.DUID    // of the server, the same on every host
}

// guest is a NIC.
type guest struct {
	host     string
	four     netip.Prefix   // its address with its subnet's length; invalid: none
	fourFrom netip.Addr     // server of that subnet
	router   netip.Addr     // of that subnet; invalid: none
	options  dhcpv4.Options // told with that address
	six      netip.Prefix
	sixFrom  netip.Addr
}

// six is an IPv6 subnet, or one of either family.
type six struct {
	prefix netip.Prefix
	server netip.Addr
	router netip.Addr // of an IPv4 one; invalid: none
}

// Zone gives the domain under which guests of a network find each other, without a dot at the end.
func Zone(n desired.Network) string { return n.Name + "." + n.Account + ".internal" }

// NewNetwork makes a document ready. What cannot be understood of it is left out and told in the error; the rest counts, and the network is
// never nil.
func NewNetwork(doc desired.Network) (*Network, error) {
	sum := sha256.Sum256([]byte("dhcpv6\x00" + doc.Network))
	d := &dhcpv6.DUIDUUID{}
	copy(d.UUID[:], sum[:])
	n := &Network{guests: map[MAC]*guest{}, zone: Zone(doc), mtu: doc.MTU, duid: d}
	var subnets []six // of both families
	var bad []error
	for _, s := range doc.Subnets {
		p, err := netip.ParsePrefix(s.CIDR)
		server, err2 := netip.ParseAddr(s.Server)
		if err := errors.Join(err, err2); err != nil || !p.Contains(server) {
			const form = "read subnet %s of network %s: its server %q is not an address in %q (%v)"
			bad = append(bad, fmt.Errorf(form, s.Subnet, doc.Network, s.Server, s.CIDR, err))
			continue
		}
		router, err := netip.ParseAddr(s.Router)
		if s.Router != "" && (err != nil || !p.Contains(router) || !router.Is4()) {
			bad = append(bad, fmt.Errorf("read subnet %s of network %s: its router %q is not an IPv4 address in %q", s.Subnet, doc.Network, s.Router, s.CIDR))
			router = netip.Addr{}
		}
		subnets = append(subnets, six{p, server, router})
		if p.Addr().Is6() {
			n.six = append(n.six, six{prefix: p, server: server})
		}
	}
	for _, p := range doc.Ports {
		if !p.Here {
			continue
		}
		if err := n.addPort(p, subnets); err != nil {
			bad = append(bad, fmt.Errorf("read NIC %s of network %s: %w", p.NIC, doc.Network, err))
		}
	}
	return n, errors.Join(bad...)
}

func (n *Network) addPort(p desired.Port, subnets []six) error {
	hw, err := net.ParseMAC(p.MAC)
	if err != nil || len(hw) != 6 {
		return fmt.Errorf("%q is not a MAC address", p.MAC)
	}
	g := &guest{host: p.Host}
	for _, text := range p.Addresses {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("read its address: %w", err)
		}
		for _, s := range subnets {
			switch at := netip.PrefixFrom(ip, s.prefix.Bits()); {
			case !s.prefix.Contains(ip):
			case ip.Is4() && !g.four.IsValid():
				g.four, g.fourFrom, g.router = at, s.server, s.router
			case ip.Is6() && !g.six.IsValid():
				g.six, g.sixFrom = at, s.server
			}
		}
	}
	if g.four.IsValid() {
		g.options = n.options4(g)
	}
	n.guests[MAC(hw)] = g
	return nil
}

// fits keeps back what is longer than a packet of the network: the answer to one who asks for hundreds of addresses.
func (n *Network) fits(p []byte) ([]byte, error) {
	if len(p) > n.mtu {
		return nil, ErrTooLong
	}
	return p, nil
}

// IPv6 tells whether the network has an IPv6 subnet.
func (n *Network) IPv6() bool { return len(n.six) > 0 }

// guest finds the NIC that a frame came from.
func (n *Network) guest(from MAC) (*guest, error) {
	g, ok := n.guests[from]
	if !ok {
		return nil, ErrUnknown
	}
	return g, nil
}

// linkLocal gives the IPv6 address that a card makes of its hardware address (RFC 4291, appendix A).
func linkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}
