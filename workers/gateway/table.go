package gateway

import (
	"fmt"

	"github.com/google/nftables"
)

// tableName is of the one table of a gateway.
const tableName = "gateway"

// SetRules puts rules in the place of those that are there, in one transaction.
func (k Kernel) SetRules(vni int, rules []rule) error {
	return at(k.Path(vni), func(x space) error {
		c, err := nftables.New(nftables.WithNetNSFd(int(x.ns)))
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName})
		c.DelTable(t)
		c.AddTable(t)
		chains := map[string]*nftables.Chain{}
		shut, open := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
		for _, ch := range []nftables.Chain{
			{Name: chainInput, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &shut},
			{Name: chainForward, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &shut},
			{Name: chainDst, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest, Policy: &open},
			{Name: chainSrc, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource, Policy: &open},
		} {
			ch.Table = t
			chains[ch.Name] = c.AddChain(&ch)
		}
		for _, r := range rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: chains[r.chain], Exprs: r.exprs, UserData: r.sum()})
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("set rules of gateway %d: %w", vni, err)
		}
		return nil
	})
}

// Rules gives the digest of the rules that are there; "" if there are none.
func (k Kernel) Rules(vni int) (sum string, err error) {
	err = at(k.Path(vni), func(x space) error {
		c, err := nftables.New(nftables.WithNetNSFd(int(x.ns)))
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
		if err != nil {
			return fmt.Errorf("list chains of gateway %d: %w", vni, err)
		}
		sums := map[string][][]byte{}
		for _, ch := range chains {
			if ch.Table.Name != tableName {
				continue
			}
			rules, err := c.GetRules(ch.Table, ch)
			if err != nil {
				return fmt.Errorf("list rules of gateway %d: %w", vni, err)
			}
			for _, r := range rules {
				sums[ch.Name] = append(sums[ch.Name], r.UserData)
			}
		}
		if len(chains) > 0 {
			sum = digest(sums)
		}
		return nil
	})
	return sum, err
}
