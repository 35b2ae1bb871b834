package gateway

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Chains of a gateway's table.
const (
	chainDst     = "prerouting"
	chainSrc     = "postrouting"
	chainForward = "forward"
	chainInput   = "input"
)

// rule is one of a chain, in the words of nft(8), and as the kernel has it.
type rule struct {
	chain string
	text  string
	exprs []expr.Any
}

// sum is what is stored with a rule in the kernel, to know it again.
func (r rule) sum() []byte {
	h := sha256.Sum256([]byte(r.chain + ": " + r.text))
	return h[:16]
}

// digest says which rules there are, in the order of each chain; chains are in the order of their names.
func digest(byChain map[string][][]byte) string {
	h := sha256.New()
	for _, c := range []string{chainForward, chainInput, chainSrc, chainDst} {
		fmt.Fprintf(h, "%s %d:", c, len(byChain[c]))
		for _, s := range byChain[c] {
			fmt.Fprintf(h, "%d:", len(s))
			h.Write(s)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func digestOf(rules []rule) string {
	sums := map[string][][]byte{}
	for _, r := range rules {
		sums[r.chain] = append(sums[r.chain], r.sum())
	}
	return digest(sums)
}

// part of a rule.
type part struct {
	text  string
	exprs []expr.Any
}

func on(chain string, parts ...part) rule {
	r := rule{chain: chain}
	for i, p := range parts {
		if i > 0 {
			r.text += " "
		}
		r.text += p.text
		r.exprs = append(r.exprs, p.exprs...)
	}
	return r
}

func device(word string, key expr.MetaKey, name string) part {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return part{word + " " + name, []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b}}}
}

func from(name string) part { return device("iifname", expr.MetaKeyIIFNAME, name) }
func to(name string) part   { return device("oifname", expr.MetaKeyOIFNAME, name) }

// bytesAt compares bytes of the IPv4 header (base network) or of what is behind it.
func bytesAt(text string, base expr.PayloadBase, offset uint32, value ...byte) part {
	return part{text, []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(value))}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value},
	}}
}

func protocol(n byte) part {
	return bytesAt(fmt.Sprint("protocol ", n), expr.PayloadBaseNetworkHeader, 9, n)
}

// Offsets of the addresses in an IPv4 header.
const (
	atSource = 12
	atTarget = 16
)

func within(word string, offset uint32, p netip.Prefix) part {
	mask := make([]byte, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-p.Bits()))
	return part{word + " " + p.String(), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}}
}

func source(p netip.Prefix) part { return within("saddr", atSource, p) }
func target(p netip.Prefix) part { return within("daddr", atTarget, p) }

// tracked says whether one of some bits is set in what is known of the connection.
func tracked(text string, key expr.CtKey, bits uint32) part {
	mask := binary.NativeEndian.AppendUint32(nil, bits)
	return part{text, []expr.Any{
		&expr.Ct{Register: 1, Key: key}, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}}
}

func known() part {
	return tracked("ct state established,related", expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}
func fresh() part { return tracked("ct state new", expr.CtKeySTATE, expr.CtStateBitNEW) }

// vrrp is the protocol of the election (RFC 5798, 5.1.1.4).
const vrrp = 112

// ipsDstNAT is the bit of a connection whose target was translated (IPS_DST_NAT).
const ipsDstNAT = 1 << 5

func verdict(text string, kind expr.VerdictKind) part {
	return part{"counter " + text, []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: kind}}}
}

func accept() part { return verdict("accept", expr.VerdictAccept) }
func drop() part   { return verdict("drop", expr.VerdictDrop) }

func translate(text string, kind expr.NATType, ip netip.Addr) part {
	return part{"counter " + text + " to " + ip.String(), []expr.Any{
		&expr.Counter{}, &expr.Immediate{Register: 1, Data: ip.AsSlice()}, &expr.NAT{Type: kind, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}}
}

func one(text string) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(text), 32) }

// rules of a checked wish. What fits none is dropped where it would be forwarded or is for the gateway itself: silently, as a machine that
// has just taken over may be told of a connection a moment after its packet, and an answer would end it.
func (w Wish) rules() []rule {
	linkLocal := netip.MustParsePrefix("169.254.0.0/16")
	in, out := one(w.own(inner, w.peer()).Addr().String()), one(w.own(outer, w.peer()).Addr().String())
	rules := []rule{
		on(chainInput, from("lo"), accept()),
		on(chainInput, from(inner), source(in), protocol(vrrp), accept()),
		on(chainInput, from(outer), source(out), protocol(vrrp), accept()),
		on(chainInput, from(inner), source(in), protocol(unix.IPPROTO_UDP),
			bytesAt(fmt.Sprint("dport ", syncPort), expr.PayloadBaseTransportHeader, 2, syncPort>>8, syncPort&0xff), accept()),
		on(chainInput, source(linkLocal), drop()),
		on(chainInput, protocol(unix.IPPROTO_ICMP), bytesAt("echo", expr.PayloadBaseTransportHeader, 0, 8), accept()),
		on(chainForward, target(linkLocal), drop()),
		on(chainForward, source(linkLocal), drop()),
		on(chainForward, known(), accept()),
	}
	for _, p := range w.Public {
		rules = append(rules, on(chainDst, from(outer), target(one(p.Address)), translate("dnat", expr.NATTypeDestNAT, netip.MustParseAddr(p.To))),
			on(chainSrc, to(outer), source(one(p.To)), translate("snat", expr.NATTypeSourceNAT, netip.MustParseAddr(p.Address))),
			on(chainForward, from(outer), to(inner), target(one(p.To)), fresh(), tracked("ct status dnat", expr.CtKeySTATUS, ipsDstNAT), accept()))
	}
	for _, s := range w.Subnets {
		net := netip.MustParsePrefix(s.CIDR)
		rules = append(rules, on(chainForward, from(inner), to(outer), source(net), fresh(), accept()),
			on(chainSrc, to(outer), source(net), translate("snat", expr.NATTypeSourceNAT, netip.MustParsePrefix(w.Address).Addr())))
	}
	return rules
}
