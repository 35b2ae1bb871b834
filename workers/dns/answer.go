package dns

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Why a query is not answered from here.
var (
	ErrMalformed = errors.New("malformed, or no query")
	ErrUnknown   = errors.New("not from an address of a NIC of this host")
	ErrElsewhere = errors.New("to be asked upstream")
)

var reasons = []error{ErrMalformed, ErrUnknown, ErrElsewhere}

// Sizes of messages over UDP, in bytes: what everybody takes, and what no network fragments (DNS flag day 2020).
const (
	leastUDP = 512
	mostUDP  = 1232
	mostTCP  = 65535
)

// Query is one, with what its answer depends on.
type Query struct {
	From     netip.Addr
	Data     []byte
	TCP      bool
	Upstream bool // what is not ours can be asked elsewhere
}

// Answer answers a query. ErrElsewhere: that is not for the zone to say, and it may be asked upstream.
func (z *Zone) Answer(q Query) ([]byte, error) {
	if !z.here[q.From] {
		return nil, ErrUnknown
	}
	if len(q.Data) < 12 || q.Data[2]&0x80 != 0 {
		return nil, ErrMalformed
	}
	req := &dns.Msg{}
	if err := req.Unpack(q.Data); err != nil {
		return refusal(q.Data, dns.RcodeFormatError), nil
	}
	switch {
	case req.Opcode != dns.OpcodeQuery:
		return refusal(q.Data, dns.RcodeNotImplemented), nil
	case len(req.Question) != 1:
		return refusal(q.Data, dns.RcodeFormatError), nil
	}
	reply := (&dns.Msg{}).SetReply(req)
	reply.RecursionAvailable = q.Upstream
	opt := req.IsEdns0()
	if opt != nil && opt.Version() != 0 {
		reply.Rcode = dns.RcodeBadVers
		return pack(reply, req, q.TCP)
	}
	if !z.fill(reply, req.Question[0]) {
		if q.Upstream && req.RecursionDesired && mayLeave(req.Question[0]) {
			return nil, ErrElsewhere
		}
		reply.Rcode = dns.RcodeRefused
	}
	return pack(reply, req, q.TCP)
}

// refusal answers what cannot be understood: its header alone.
func refusal(query []byte, code int) []byte {
	p := make([]byte, 12)
	copy(p, query[:4])
	p[2] = p[2]&0x79 | 0x80 // an answer with the same operation and wish for recursion
	p[3] = byte(code)
	return p
}

// pack encodes an answer, as long as the one who asks takes it.
func pack(reply, req *dns.Msg, tcp bool) ([]byte, error) {
	size := leastUDP
	if opt := req.IsEdns0(); opt != nil {
		size = min(max(int(opt.UDPSize()), leastUDP), mostUDP)
		own := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		own.SetUDPSize(mostUDP)
		if reply.Rcode == dns.RcodeBadVers {
			own.SetExtendedRcode(dns.RcodeBadVers)
		}
		reply.Extra = append(reply.Extra, own)
	}
	if tcp {
		size = mostTCP
	}
	reply.Truncate(size) // and compress, if it must
	p, err := reply.Pack()
	if err != nil {
		return nil, ErrMalformed
	}
	return p, nil
}

// fill answers a question of ours. False: it is not ours.
func (z *Zone) fill(reply *dns.Msg, q dns.Question) bool {
	if q.Qclass != dns.ClassINET || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return false
	}
	name := dns.CanonicalName(q.Name)
	label, inside := strings.CutSuffix(name, "."+z.name)
	switch {
	case name == z.name:
		z.fillApex(reply, q, z.soa)
		z.apex.fill(reply, q)
	case inside:
		r := z.hosts[label]
		if r == nil {
			reply.Rcode = dns.RcodeNameError
			break
		}
		r.fill(reply, q)
	default:
		return z.fillReverse(reply, q, name)
	}
	z.finish(reply, q, z.soa)
	return true
}

// finish says the rest of an authoritative answer: whose there is nothing to say.
func (z *Zone) finish(reply *dns.Msg, q dns.Question, soa *dns.SOA) {
	reply.Authoritative = true
	if q.Qtype == dns.TypeANY && reply.Rcode == dns.RcodeSuccess { // RFC 8482, 4.2
		reply.Answer = []dns.RR{&dns.HINFO{Hdr: header(q, dns.TypeHINFO), Cpu: "RFC8482"}}
	}
	if len(reply.Answer) == 0 {
		reply.Ns = []dns.RR{soa}
	}
}

func header(q dns.Question, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: positiveTTL}
}

func (r *record) fill(reply *dns.Msg, q dns.Question) {
	switch q.Qtype {
	case dns.TypeA:
		for _, ip := range r.four {
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header(q, dns.TypeA), A: ip.AsSlice()})
		}
	case dns.TypeAAAA:
		for _, ip := range r.six {
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header(q, dns.TypeAAAA), AAAA: ip.AsSlice()})
		}
	}
}

func (z *Zone) fillApex(reply *dns.Msg, q dns.Question, soa *dns.SOA) {
	switch q.Qtype {
	case dns.TypeSOA:
		reply.Answer = append(reply.Answer, soa)
	case dns.TypeNS:
		reply.Answer = append(reply.Answer, &dns.NS{Hdr: header(q, dns.TypeNS), Ns: z.name})
	}
}

// fillReverse answers for names of addresses in the network's subnets. False: it is none.
func (z *Zone) fillReverse(reply *dns.Msg, q dns.Question, name string) bool {
	p, ok := addressesOf(name)
	if !ok {
		return false
	}
	for _, s := range z.subnets {
		if !within(p, s) {
			continue
		}
		apex := reverseApex(s, p.Addr())
		soa := *z.soa
		soa.Hdr.Name = reverseName(apex)
		switch host, known := z.names[p.Addr()]; {
		case p == apex:
			z.fillApex(reply, q, &soa)
		case !p.IsSingleIP():
			if !z.hasNameIn(p) {
				reply.Rcode = dns.RcodeNameError
			}
		case !known:
			reply.Rcode = dns.RcodeNameError
		case q.Qtype == dns.TypePTR:
			reply.Answer = append(reply.Answer, &dns.PTR{Hdr: header(q, dns.TypePTR), Ptr: host})
		}
		z.finish(reply, q, &soa)
		return true
	}
	return false
}

// hasNameIn tells whether any of some addresses has a name: then the names between are there too, and have nothing.
func (z *Zone) hasNameIn(p netip.Prefix) bool {
	for ip := range z.names {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// mayLeave tells whether a question that is not ours may be told to anyone outside.
func mayLeave(q dns.Question) bool {
	name := dns.CanonicalName(q.Name)
	for _, own := range []string{"internal.", "local.", "localhost.", "home.arpa."} {
		if dns.IsSubDomain(own, name) {
			return false
		}
	}
	p, ok := addressesOf(name)
	for _, x := range private {
		if ok && within(p, x) {
			return false
		}
	}
	return q.Qclass == dns.ClassINET && q.Qtype != dns.TypeANY && q.Qtype != dns.TypeAXFR && q.Qtype != dns.TypeIXFR
}
