package network

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// chainName is the one chain of each table; a table has the name of its device.
const chainName = "from"

var bases = map[string]expr.PayloadBase{atFrame: expr.PayloadBaseLLHeader, atPacket: expr.PayloadBaseNetworkHeader}

// expressions gives what a rule asks, as the kernel has it. Each counts what it takes, so that what a guest tries can be seen.
func (r rule) expressions() []expr.Any {
	var out []expr.Any
	for _, m := range r.matches {
		n := uint32(len(m.value))
		out = append(out, &expr.Payload{DestRegister: 1, Base: bases[m.base], Offset: uint32(m.offset), Len: n})
		if m.mask != 0 {
			out = append(out, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{m.mask}, Xor: []byte{0}})
		}
		op := expr.CmpOpEq
		if m.not {
			op = expr.CmpOpNeq
		}
		out = append(out, &expr.Cmp{Op: op, Register: 1, Data: []byte(m.value)})
	}
	if r.over > 0 {
		out = append(out, &expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(r.over), Unit: expr.LimitTimeSecond, Burst: uint32(2 * r.over), Over: true})
	}
	return append(out, &expr.Counter{})
}

// verdict ends a rule whose frames go no further way.
func (r rule) verdict() expr.Any {
	if r.accept {
		return &expr.Verdict{Kind: expr.VerdictAccept}
	}
	return &expr.Verdict{Kind: expr.VerdictDrop}
}

func table(device string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: device}
}

// guard puts rules before all that comes from a device, in the place of those that are there: in one transaction, so that at no moment
// there are none. shaper is the index of the device that shaped rules send to.
func (x inside) guard(device string, rules []rule, policy nftables.ChainPolicy, shaper int) error {
	b := batch{family: nftables.TableFamilyNetdev, table: device}
	b.renew()
	b.chain(&nftables.Chain{
		Name: chainName, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter, Policy: &policy, Device: device,
	})
	for _, r := range rules {
		b.rule(chainName, r, shaper)
	}
	if err := b.send(x.ns); err != nil {
		return fmt.Errorf("set rules of %s: %w", device, err)
	}
	return nil
}

// guards gives the digest of the rules of each device that has some, as digest does. A chain that lets through, where it should not, has another;
// so have rules that send to something else than the device's shaper. shapers are the indexes of those.
func guards(c *nftables.Conn, shapers map[string]int) (map[string]string, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, fmt.Errorf("list tables of rules: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, fmt.Errorf("list chains of rules: %w", err)
	}
	out := map[string]string{}
	for _, t := range tables {
		for _, chain := range chains {
			if chain.Table.Name != t.Name || chain.Name != chainName || chain.Policy == nil {
				continue
			}
			if isVif(t.Name) == (*chain.Policy == nftables.ChainPolicyAccept) {
				continue
			}
			sums, err := sumsOf(c, t, chain, shapers[ifbOf(t.Name)])
			if err != nil {
				return nil, err
			}
			out[t.Name] = digestOf(sums)
		}
	}
	return out, nil
}

func sumsOf(c *nftables.Conn, t *nftables.Table, chain *nftables.Chain, shaper int) ([][]byte, error) {
	rules, err := c.GetRules(t, chain)
	if err != nil && !errors.Is(err, unix.ENOENT) { // it has just gone
		return nil, fmt.Errorf("list rules of %s: %w", t.Name, err)
	}
	var sums [][]byte
	for _, r := range rules {
		sum, to := r.UserData, shaperMark(shaper)
		if len(sum) > sumSize && bytes.Equal(sum[sumSize:], to) {
			sum = sum[:sumSize]
		}
		sums = append(sums, sum)
	}
	return sums, nil
}

// Dropped tells how many packets of each device its rules have dropped.
func dropped(c *nftables.Conn) (map[string]uint64, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, fmt.Errorf("list tables of rules: %w", err)
	}
	out := map[string]uint64{}
	for _, t := range tables {
		rules, err := c.GetRules(t, &nftables.Chain{Name: chainName, Table: t})
		if err != nil {
			return nil, fmt.Errorf("list rules of %s: %w", t.Name, err)
		}
		for _, r := range rules {
			out[t.Name] += droppedBy(r)
		}
	}
	return out, nil
}

func droppedBy(r *nftables.Rule) uint64 {
	var n uint64
	drops := false
	for _, e := range r.Exprs {
		switch x := e.(type) {
		case *expr.Counter:
			n = x.Packets
		case *expr.Verdict:
			drops = x.Kind == expr.VerdictDrop
		}
	}
	if !drops {
		return 0
	}
	return n
}

// cut splits what a list of State has: the two sides of an "@".
func cut(word string) (left, right string, err error) {
	left, right, ok := strings.Cut(word, "@")
	if !ok {
		return "", "", fmt.Errorf("read %q: want two words with an @ between them", word)
	}
	return left, right, nil
}
