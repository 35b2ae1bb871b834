package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"cloudengine/events/desired"

	"github.com/miekg/dns"
)

var (
	one  = netip.MustParseAddr("10.1.0.2")
	two  = netip.MustParseAddr("10.1.0.3")
	away = netip.MustParseAddr("10.1.0.4")
	six  = netip.MustParseAddr("fd00:1::2")
)

// document has a VM with two NICs and one with one here, and one on another host.
func document() desired.Network {
	return desired.Network{
		Network: "0190a1b2-0000-7000-8000-000000000001", Name: "blue", Account: "acme", VNI: 4096, MTU: 1450, Want: desired.There,
		Subnets: []desired.Subnet{{Subnet: "s4", CIDR: "10.1.0.0/24", Server: "10.1.0.1"}, {Subnet: "s6", CIDR: "fd00:1::/64", Server: "fd00:1::1"}},
		Ports: []desired.Port{
			{NIC: "n1", Host: "web1", MAC: "00:16:3e:00:00:01", Addresses: []string{one.String(), six.String()}, Here: true},
			{NIC: "n2", Host: "web2", MAC: "00:16:3e:00:00:02", Addresses: []string{two.String(), "fd00:1::3"}, Here: true},
			{NIC: "n3", Host: "db", MAC: "00:16:3e:00:00:03", Addresses: []string{away.String()}},
			{NIC: "n4", Host: "db", MAC: "00:16:3e:00:00:04", Addresses: []string{"10.1.0.5", "fd00:1::5"}},
		},
	}
}

func zone(t testing.TB, doc desired.Network) *Zone {
	t.Helper()
	z, err := NewZone(doc)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func query(t testing.TB, name string, kind uint16, change ...func(*dns.Msg)) []byte {
	t.Helper()
	m := (&dns.Msg{}).SetQuestion(name, kind)
	for _, f := range change {
		f(m)
	}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// said is an answer on one line: its code, whether it is authoritative, and the data of its records by section.
func said(t testing.TB, p []byte) string {
	t.Helper()
	m := &dns.Msg{}
	if err := m.Unpack(p); err != nil {
		t.Fatal(err)
	}
	line := dns.RcodeToString[m.Rcode]
	if m.Authoritative {
		line += " aa"
	}
	var data []string
	for _, rr := range m.Answer {
		data = append(data, dns.TypeToString[rr.Header().Rrtype]+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(data)
	for _, rr := range m.Ns {
		data = append(data, "authority "+rr.Header().Name+" "+dns.TypeToString[rr.Header().Rrtype])
	}
	return strings.Join(append([]string{line}, data...), "; ")
}

func TestAnswers(t *testing.T) {
	doc := document()
	doc.Subnets = append(doc.Subnets, desired.Subnet{CIDR: "203.0.113.64/26", Server: "203.0.113.65"},
		desired.Subnet{CIDR: "172.20.0.0/14", Server: "172.20.0.1"})
	doc.Ports = append(doc.Ports, desired.Port{Host: "pub", Addresses: []string{"203.0.113.66"}},
		desired.Port{Host: "big", Addresses: []string{"172.21.2.3"}})
	z := zone(t, doc)
	const none = "NOERROR aa; authority blue.acme.internal. SOA"
	const missing = "NXDOMAIN aa; authority blue.acme.internal. SOA"
	soa := fmt.Sprintf("NOERROR aa; SOA blue.acme.internal. hostmaster.blue.acme.internal. %d 3600 600 86400 5", z.serial())
	for q, want := range map[string]string{
		"web1.blue.acme.internal. A":                      "NOERROR aa; A 10.1.0.2",
		"WeB1.bLUE.acme.Internal. AAAA":                   "NOERROR aa; AAAA fd00:1::2",
		"db.blue.acme.internal. A":                        "NOERROR aa; A 10.1.0.4; A 10.1.0.5",
		"db.blue.acme.internal. AAAA":                     "NOERROR aa; AAAA fd00:1::5",
		"db.blue.acme.internal. MX":                       none,
		"pub.blue.acme.internal. AAAA":                    none,
		"web9.blue.acme.internal. A":                      missing,
		"x.web1.blue.acme.internal. A":                    missing,
		`web1\.x.blue.acme.internal. A`:                   missing,
		"web1.blue.acme.internal. ANY":                    `NOERROR aa; HINFO "RFC8482" ""`,
		"blue.acme.internal. A":                           "NOERROR aa; A 10.1.0.1; A 172.20.0.1; A 203.0.113.65",
		"blue.acme.internal. SOA":                         soa,
		"blue.acme.internal. NS":                          "NOERROR aa; NS blue.acme.internal.",
		"blue.acme.internal. AXFR":                        "REFUSED",
		"web1.red.acme.internal. A":                       "REFUSED",
		"acme.internal. A":                                "REFUSED",
		"xblue.acme.internal. A":                          "REFUSED",
		"example.org. A":                                  "REFUSED",
		"2.0.1.10.in-addr.arpa. PTR":                      "NOERROR aa; PTR web1.blue.acme.internal.",
		"5.0.1.10.in-addr.arpa. PTR":                      "NOERROR aa; PTR db.blue.acme.internal.",
		"1.0.1.10.in-addr.arpa. PTR":                      "NOERROR aa; PTR blue.acme.internal.",
		"2.0.1.10.in-addr.arpa. A":                        "NOERROR aa; authority 0.1.10.in-addr.arpa. SOA",
		"9.0.1.10.in-addr.arpa. PTR":                      "NXDOMAIN aa; authority 0.1.10.in-addr.arpa. SOA",
		"0.1.10.in-addr.arpa. PTR":                        "NOERROR aa; authority 0.1.10.in-addr.arpa. SOA",
		"1.10.in-addr.arpa. PTR":                          "REFUSED",
		"2.1.1.10.in-addr.arpa. PTR":                      "REFUSED",
		"02.0.1.10.in-addr.arpa. PTR":                     "REFUSED",
		"66.113.0.203.in-addr.arpa. PTR":                  "NOERROR aa; PTR pub.blue.acme.internal.",
		"67.113.0.203.in-addr.arpa. PTR":                  "NXDOMAIN aa; authority 113.0.203.in-addr.arpa. SOA",
		"3.113.0.203.in-addr.arpa. PTR":                   "REFUSED",
		"3.2.21.172.in-addr.arpa. PTR":                    "NOERROR aa; PTR big.blue.acme.internal.",
		"2.21.172.in-addr.arpa. PTR":                      "NOERROR aa; authority 21.172.in-addr.arpa. SOA",
		"9.21.172.in-addr.arpa. PTR":                      "NXDOMAIN aa; authority 21.172.in-addr.arpa. SOA",
		reverseName(all(six)) + " PTR":                    "NOERROR aa; PTR web1.blue.acme.internal.",
		"0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa. PTR":           "REFUSED",
		"0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa. SOA":   soa,
		"0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa. PTR": "NOERROR aa; authority 0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa. SOA",
	} {
		name, kind, _ := strings.Cut(q, " ")
		p, err := z.Answer(Query{From: one, Data: query(t, name, dns.StringToType[kind])})
		if err != nil {
			t.Errorf("%s: %v", q, err)
		} else if got := said(t, p); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
}

func all(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }

func TestOddQueries(t *testing.T) {
	z := zone(t, document())
	edns := func(version uint8) func(*dns.Msg) {
		return func(m *dns.Msg) {
			m.SetEdns0(4096, true)
			m.IsEdns0().SetVersion(version)
		}
	}
	name := "web1.blue.acme.internal."
	for what, c := range map[string]struct {
		q    []byte
		want string
	}{
		"update":    {query(t, name, dns.TypeA, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), "NOTIMP"},
		"no name":   {query(t, name, dns.TypeA, func(m *dns.Msg) { m.Question = nil }), "FORMERR"},
		"two names": {query(t, name, dns.TypeA, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), "FORMERR"},
		"cut off":   {query(t, name, dns.TypeA)[:20], "FORMERR"},
		"chaos":     {query(t, "version.bind.", dns.TypeTXT, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), "REFUSED"},
		"extended":  {query(t, name, dns.TypeA, edns(0)), "NOERROR aa; A 10.1.0.2"},
		// 16, BADVERS, has two names
		"version 9": {query(t, name, dns.TypeA, edns(9)), "BADSIG"},
	} {
		p, err := z.Answer(Query{From: one, Data: c.q})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := said(t, p); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
		if p[0] != c.q[0] || p[1] != c.q[1] || p[2]&0x80 == 0 {
			t.Errorf("%s: header %x to %x", what, p[:4], c.q[:4])
		}
	}
	answer := query(t, name, dns.TypeA, func(m *dns.Msg) { m.Response = true })
	for what, c := range map[string]struct {
		q    Query
		want error
	}{
		"an answer":        {Query{From: one, Data: answer}, ErrMalformed},
		"eleven bytes":     {Query{From: one, Data: answer[:11]}, ErrMalformed},
		"of another host":  {Query{From: away, Data: query(t, name, dns.TypeA)}, ErrUnknown},
		"of elsewhere":     {Query{From: netip.MustParseAddr("192.0.2.1"), Data: query(t, name, dns.TypeA)}, ErrUnknown},
		"of the server":    {Query{From: netip.MustParseAddr("10.1.0.1"), Data: query(t, name, dns.TypeA)}, ErrUnknown},
		"to ask elsewhere": {Query{From: one, Data: query(t, "example.org.", dns.TypeA), Upstream: true}, ErrElsewhere},
	} {
		if p, err := z.Answer(c.q); !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: %x, %v; want %v", what, p, err, c.want)
		}
	}
}

// TestWhatStaysInside: names of private addresses and of other networks are told to nobody.
func TestWhatStaysInside(t *testing.T) {
	z := zone(t, document())
	for name, leaves := range map[string]bool{
		"example.org.": true, "4.4.8.8.in-addr.arpa.": true, "172.in-addr.arpa.": true, "internal.example.org.": true,
		"other.acme.internal.": false, "9.9.9.10.in-addr.arpa.": false, "10.in-addr.arpa.": false, "1.0.31.172.in-addr.arpa.": false, "x.local.": false,
		"1.168.192.in-addr.arpa.": false, "1.0.65.100.in-addr.arpa.": false, "d.f.ip6.arpa.": false, "8.e.f.ip6.arpa.": false, "localhost.": false,
	} {
		_, err := z.Answer(Query{From: one, Data: query(t, name, dns.TypePTR), Upstream: true})
		if errors.Is(err, ErrElsewhere) != leaves {
			t.Errorf("%s: %v", name, err)
		}
	}
	q := query(t, "example.org.", dns.TypeA, func(m *dns.Msg) { m.RecursionDesired = false })
	if p, err := z.Answer(Query{From: one, Data: q, Upstream: true}); err != nil || said(t, p) != "REFUSED" {
		t.Errorf("without a wish for recursion: %x, %v", p, err)
	}
}

// TestSizes: one VM with more addresses than fit.
func TestSizes(t *testing.T) {
	doc := document()
	for i := range 200 {
		doc.Ports = append(doc.Ports, desired.Port{Host: "many", Addresses: []string{fmt.Sprintf("10.1.0.%d", i+20)}})
	}
	z := zone(t, doc)
	for size, most := range map[uint16]int{0: 512, 100: 512, 1000: 1000, 4096: 1232} {
		q := query(t, "many.blue.acme.internal.", dns.TypeA, func(m *dns.Msg) {
			if size != 0 {
				m.SetEdns0(size, false)
			}
		})
		p, err := z.Answer(Query{From: one, Data: q})
		if err != nil || len(p) > most || len(p) < most-20 || p[2]&2 == 0 {
			t.Errorf("size %d: %d bytes, header %x, %v", size, len(p), p[:4], err)
		}
		p, err = z.Answer(Query{From: one, Data: q, TCP: true})
		if err != nil || p[2]&2 != 0 || strings.Count(said(t, p), "; A ") != 200 {
			t.Errorf("over TCP: %d bytes, %v", len(p), err)
		}
	}
}

func TestDocumentThatIsNotAllUnderstood(t *testing.T) {
	doc := document()
	doc.Subnets = append(doc.Subnets, desired.Subnet{Subnet: "s", CIDR: "10.2.0.0/24", Server: "10.3.0.1"})
	doc.Ports = append(doc.Ports, desired.Port{NIC: "n", Host: "bad", Addresses: []string{"no"}},
		desired.Port{NIC: "n", Host: "a.b", Addresses: []string{"10.1.0.9"}, Here: true})
	z, err := NewZone(doc)
	if err == nil || z == nil {
		t.Fatalf("%v, %v", z, err)
	}
	p, err := z.Answer(Query{From: netip.MustParseAddr("10.1.0.9"), Data: query(t, "web1.blue.acme.internal.", dns.TypeA)}) // it has no name, and asks
	if err != nil || said(t, p) != "NOERROR aa; A 10.1.0.2" {
		t.Errorf("the rest does not count: %x, %v", p, err)
	}
}

func TestSerialTellsDocumentsApart(t *testing.T) {
	a, elsewhere, b := zone(t, document()), document(), document()
	for i := range elsewhere.Ports {
		elsewhere.Ports[i].Here = !elsewhere.Ports[i].Here
	}
	b.Ports[0].Addresses[0] = "10.1.0.77"
	if a.serial() != zone(t, elsewhere).serial() || a.serial() == zone(t, b).serial() {
		t.Error("the serial is not a digest of what is answered")
	}
}

func FuzzAnswer(f *testing.F) {
	z := zone(f, document())
	for _, name := range []string{"web1.blue.acme.internal.", "2.0.1.10.in-addr.arpa.", reverseName(all(six)), "example.org.", "."} {
		f.Add(query(f, name, dns.TypeA), false)
		f.Add(query(f, name, dns.TypeANY, func(m *dns.Msg) { m.SetEdns0(4096, true) }), true)
	}
	f.Add(query(f, "web1.blue.acme.internal.", dns.TypeA)[:25], true)
	f.Fuzz(func(t *testing.T, q []byte, tcp bool) {
		p, err := z.Answer(Query{From: one, Data: q, TCP: tcp, Upstream: tcp})
		if (p == nil) == (err == nil) {
			t.Fatalf("%x, %v", p, err)
		}
		if err != nil {
			return
		}
		if len(p) < 12 || len(p) > mostUDP || p[2]&0x80 == 0 || p[0] != q[0] || p[1] != q[1] {
			t.Fatalf("answer %x", p)
		}
		if err := (&dns.Msg{}).Unpack(p); err != nil {
			t.Fatalf("answer %x: %v", p, err)
		}
	})
}

func FuzzReverse(f *testing.F) {
	f.Add("2.0.1.10.in-addr.arpa.")
	f.Add("0.1.10.in-addr.arpa.")
	f.Add(reverseName(all(six)))
	f.Fuzz(func(t *testing.T, name string) {
		if p, ok := addressesOf(name); ok && !strings.EqualFold(reverseName(p), name) {
			t.Fatalf("%q is %v, which is %q", name, p, reverseName(p))
		}
	})
}
