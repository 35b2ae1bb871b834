package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// The filter before this host's own UDP port of tunnels, where the tunnels were made. It lets in what comes from the other hosts of its networks.
const (
	filterTable = "ce-tunnels"
	filterSet   = "hosts"
)

// filterOf says which hosts may send to the port: those that have guests of a network that is here. With no tunnel, or none to come, there is no filter.
// A network that stands and that no document is about, as in a term that has just begun, or none that can be followed, keeps its hosts.
func filterOf(wishes []Wish, seen Observed) string {
	hosts, tunnels, told := map[string]bool{}, false, map[int]bool{}
	for _, w := range wishes {
		told[w.VNI] = w.Want == desired.Absent || w.check() == nil
	}
	for vni, s := range seen.Nets {
		tunnels = tunnels || s.Local != ""
		for _, r := range s.Remotes {
			if _, at, ok := strings.Cut(r, "@"); ok && !told[vni] {
				hosts[at] = true
			}
		}
	}
	for _, w := range wishes {
		if w.Want != desired.There || w.Local == "" || w.check() != nil {
			continue
		}
		tunnels = true
		for _, p := range w.Ports {
			if p.At != "" && p.At != w.Local {
				hosts[p.At] = true
			}
		}
		for _, g := range w.Gateways {
			if g.At != "" && g.At != w.Local {
				hosts[g.At] = true
			}
		}
	}
	if !tunnels {
		return ""
	}
	var list []string
	for at := range hosts {
		list = append(list, at)
	}
	slices.Sort(list)
	return events.FilterOpenTo + words(list)
}

// filterRules gives the two rules: from the hosts in, all else not.
func filterRules() [][]expr.Any {
	port := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(udp)},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{Port >> 8, Port & 0xff}},
	}
	from := []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}, &expr.Lookup{SourceRegister: 1, SetName: filterSet}}
	return [][]expr.Any{
		append(append(port[:4:4], from...), &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}),
		append(port[:4:4], &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}),
	}
}

// filterMark is stored with each rule, to know it again.
func filterMark(i int) []byte { return fmt.Appendf(nil, "tunnels %d", i) }

// SetFilter opens the port of tunnels to these hosts alone, in one transaction. want is what filterOf says; "" takes the filter away.
func (k Kernel) SetFilter(want string) error {
	return k.home(func(h inside) error {
		t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: filterTable}
		h.rules.AddTable(t)
		h.rules.DelTable(t)
		if list, there := strings.CutPrefix(want, events.FilterOpenTo); there {
			if err := addFilter(h.rules, t, strings.Fields(list)); err != nil {
				return err
			}
		}
		if err := h.rules.Flush(); err != nil {
			return fmt.Errorf("set filter of port %d: %w", Port, err)
		}
		return nil
	})
}

func addFilter(c *nftables.Conn, t *nftables.Table, hosts []string) error {
	var elements []nftables.SetElement
	for _, text := range hosts {
		ip, err := netip.ParseAddr(text)
		if err != nil || !ip.Is4() {
			return fmt.Errorf("open port %d to %q: it is no IPv4 address: %w", Port, text, err)
		}
		elements = append(elements, nftables.SetElement{Key: ip.AsSlice()})
	}
	c.AddTable(t)
	set := &nftables.Set{Table: t, Name: filterSet, KeyType: nftables.TypeIPAddr}
	if err := c.AddSet(set, elements); err != nil {
		return fmt.Errorf("make set of hosts: %w", err)
	}
	accept := nftables.ChainPolicyAccept
	chain := c.AddChain(&nftables.Chain{
		Name: chainName, Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &accept,
	})
	for i, exprs := range filterRules() {
		for _, e := range exprs {
			if l, is := e.(*expr.Lookup); is {
				l.SetID = set.ID
			}
		}
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs, UserData: filterMark(i)})
	}
	return nil
}

// Filter says what the port of tunnels is open to, as filterOf does; "" when there is no filter.
func (k Kernel) Filter() (out string, err error) {
	err = k.home(func(h inside) error {
		tables, err := h.rules.ListTablesOfFamily(nftables.TableFamilyIPv4)
		if err != nil {
			return fmt.Errorf("list tables of rules: %w", err)
		}
		i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == filterTable })
		if i < 0 {
			return nil
		}
		out, err = readFilter(h.rules, tables[i])
		return err
	})
	return out, err
}

func readFilter(c *nftables.Conn, t *nftables.Table) (string, error) {
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return "", fmt.Errorf("list chains of rules: %w", err)
	}
	hooked := func(x *nftables.Chain) bool {
		return x.Table.Name == t.Name && x.Name == chainName && x.Hooknum != nil && *x.Hooknum == *nftables.ChainHookInput
	}
	if !slices.ContainsFunc(chains, hooked) {
		return "without a chain", nil
	}
	rules, err := c.GetRules(t, &nftables.Chain{Name: chainName, Table: t})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("list rules of port %d: %w", Port, err)
	}
	if len(rules) != len(filterRules()) {
		return "with other rules", nil
	}
	for i, r := range rules {
		if !bytes.Equal(r.UserData, filterMark(i)) {
			return "with other rules", nil
		}
	}
	elements, err := c.GetSetElements(&nftables.Set{Table: t, Name: filterSet, KeyType: nftables.TypeIPAddr})
	if err != nil {
		return "", fmt.Errorf("list hosts of port %d: %w", Port, err)
	}
	var list []string
	for _, e := range elements {
		if ip, ok := netip.AddrFromSlice(e.Key); ok {
			list = append(list, ip.String())
		}
	}
	slices.Sort(list)
	return events.FilterOpenTo + words(list), nil
}
