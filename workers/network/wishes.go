package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Wish is what one document wants.
type Wish struct {
	desired.Network
	Generation events.Generation
}

// Decode reads documents. For one that it cannot read, or that has no opinion, nothing is done.
func Decode(docs []desired.Document) []Wish {
	var out []Wish
	for _, d := range docs {
		var n desired.Network
		if d.Kind != desired.KindNetwork || json.Unmarshal(d.Body, &n) != nil || n.Want != desired.There && n.Want != desired.Absent || n.VNI < 1 || n.VNI >= 1<<24 {
			continue
		}
		out = append(out, Wish{n, d.Generation})
	}
	slices.SortFunc(out, func(a, b Wish) int { return strings.Compare(string(a.Network.Network), string(b.Network.Network)) })
	return out
}

func (w Wish) object() events.Ref {
	return events.Ref{Kind: desired.KindNetwork, ID: string(w.Network.Network)}
}

// check says what is wrong with a wish that can never be fulfilled.
func (w Wish) check() error {
	if w.Local != "" && !isIPv4(w.Local) {
		return fmt.Errorf("read network %s: %q is no address on the underlay", w.Network.Network, w.Local)
	}
	for _, p := range w.Ports {
		if p.At != "" && !isIPv4(p.At) {
			return fmt.Errorf("read network %s: %q is no address on the underlay", w.Network.Network, p.At)
		}
		if _, err := parseMAC(p.MAC); err != nil {
			return fmt.Errorf("read network %s: %w", w.Network.Network, err)
		}
	}
	for _, g := range w.Gateways {
		if _, err := parseMAC(g.MAC); err != nil || g.At != "" && !isIPv4(g.At) {
			return fmt.Errorf("read network %s: gateway %s at %q: %w", w.Network.Network, g.MAC, g.At, errNoMAC)
		}
	}
	for _, s := range w.Subnets {
		if _, err := serverOf(s); err != nil {
			return fmt.Errorf("read network %s: %w", w.Network.Network, err)
		}
	}
	return nil
}

func isIPv4(text string) bool {
	ip, err := netip.ParseAddr(text)
	return err == nil && ip.Is4()
}

// serverOf gives the address of the bridge in a subnet, with its length.
func serverOf(s desired.Subnet) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return p, err
	}
	ip, err := netip.ParseAddr(s.Server)
	if err != nil {
		return p, err
	}
	if !p.Contains(ip) {
		return p, fmt.Errorf("%s is not in %s", ip, p)
	}
	return netip.PrefixFrom(ip, p.Bits()), nil
}

// wanted is what shall be there of a network, in the words of State.
func (w Wish) wanted(vifs []Vif) State {
	s := State{VNI: w.VNI, MTU: w.MTU, MAC: ServerMAC(w.VNI), Local: w.Local, Up: true}
	for _, x := range w.Subnets {
		p, _ := serverOf(x) // checked
		s.Addresses = append(s.Addresses, p.String())
	}
	hosts := map[string]bool{}
	for _, p := range w.Ports {
		for _, v := range vifs {
			if v.VNI == w.VNI && v.MAC == p.MAC {
				s.Switch = append(s.Switch, p.MAC+"@"+v.Device)
			}
		}
		for _, ip := range p.Addresses {
			if p.Here {
				s.Neighbours = append(s.Neighbours, ip+"@"+p.MAC)
			}
		}
		if p.At == "" || p.Here || p.At == w.Local || w.Local == "" {
			continue
		}
		hosts[p.At] = true
		s.Remotes, s.Switch = append(s.Remotes, p.MAC+"@"+p.At), append(s.Switch, p.MAC+"@"+Tunnel)
	}
	for _, g := range w.Gateways {
		switch {
		case g.At == w.Local && g.Here:
			s.Switch = append(s.Switch, g.MAC+"@"+GatewayPort)
		case g.At != "" && g.At != w.Local && w.Local != "":
			hosts[g.At] = true
			s.Remotes, s.Switch = append(s.Remotes, g.MAC+"@"+g.At), append(s.Switch, g.MAC+"@"+Tunnel)
		}
	}
	for at := range hosts {
		s.Remotes = append(s.Remotes, everybody+"@"+at)
	}
	for _, list := range [][]string{s.Addresses, s.Switch, s.Neighbours, s.Remotes} {
		slices.Sort(list)
	}
	s.Guard = digest(tunnelRules(w.VNI, s.Addresses))
	return s
}

// everybody is the MAC address under which a tunnel has the hosts that get what is for no known port.
const everybody = "00:00:00:00:00:00"
