package dns

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"

	"cloudengine/events/desired"

	"github.com/miekg/dns"
)

// Zone is a document, made ready to answer from. It is never changed.
type Zone struct {
	name    string             // canonical, with the dot at the end
	hosts   map[string]*record // by their one label
	apex    record             // of the zone itself: where it is answered
	names   map[netip.Addr]string
	subnets []netip.Prefix
	here    map[netip.Addr]bool // who is answered
	soa     *dns.SOA            // of the zone
}

// record is what a name has.
type record struct{ four, six []netip.Addr }

// How long answers may be kept, in seconds. A guest that waits for a new one to come up asks again soon.
const (
	positiveTTL = 30
	negativeTTL = 5
)

// NewZone makes a document ready. What cannot be understood of it is left out and told in the error; the rest counts, and the zone is never nil.
func NewZone(doc desired.Network) (*Zone, error) {
	z := &Zone{
		name:  dns.CanonicalName(doc.Name + "." + doc.Account + ".internal"),
		hosts: map[string]*record{}, names: map[netip.Addr]string{}, here: map[netip.Addr]bool{},
	}
	var bad []error
	for _, s := range doc.Subnets {
		p, err := netip.ParsePrefix(s.CIDR)
		server, err2 := netip.ParseAddr(s.Server)
		if err := errors.Join(err, err2); err != nil || !p.Contains(server) {
			const form = "read subnet %s of network %s: its server %q is not an address in %q (%v)"
			bad = append(bad, fmt.Errorf(form, s.Subnet, doc.Network, s.Server, s.CIDR, err))
			continue
		}
		z.subnets = append(z.subnets, p.Masked())
		z.apex.add(server)
		z.names[server] = z.name
	}
	for _, p := range doc.Ports {
		if err := z.addPort(p); err != nil {
			bad = append(bad, fmt.Errorf("read NIC %s of network %s: %w", p.NIC, doc.Network, err))
		}
	}
	z.soa = &dns.SOA{
		Hdr: dns.RR_Header{Name: z.name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
		Ns:  z.name, Mbox: "hostmaster." + z.name, Serial: z.serial(), Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negativeTTL,
	}
	return z, errors.Join(bad...)
}

func (z *Zone) addPort(p desired.Port) error {
	host := strings.ToLower(p.Host)
	_, valid := dns.IsDomainName(host + "." + z.name)
	if host == "" || strings.ContainsAny(host, `.\`) || !valid { // a NIC whose VM has gone since has no name
		host = ""
	}
	for _, text := range p.Addresses {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("read its address: %w", err)
		}
		if p.Here {
			z.here[ip] = true
		}
		if host == "" {
			continue
		}
		if z.hosts[host] == nil {
			z.hosts[host] = &record{}
		}
		z.hosts[host].add(ip)
		z.names[ip] = host + "." + z.name
	}
	return nil
}

func (r *record) add(ip netip.Addr) {
	if ip.Is4() {
		r.four = append(r.four, ip)
	} else {
		r.six = append(r.six, ip)
	}
}

// serial is a digest of all that is answered, so that two hosts can be seen to have the same document. There are no secondary servers that
// would need it to grow.
func (z *Zone) serial() uint32 {
	var lines []string
	for ip, name := range z.names {
		lines = append(lines, ip.String()+" "+name)
	}
	slices.Sort(lines)
	return crc32.ChecksumIEEE([]byte(strings.Join(lines, "\n")))
}

// isServer tells whether an address is one of those that the network is served at.
func (z *Zone) isServer(ip netip.Addr) bool {
	return slices.Contains(z.apex.four, ip) || slices.Contains(z.apex.six, ip)
}
