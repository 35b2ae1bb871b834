package netboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

const registryFile = "machines.json"

// Machine is what netboot must know of a machine.
type Machine struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`  // also its host name by DHCP
	MACs  []string `json:"macs"`  // of its boot NICs, lower case with colons
	Roles []string `json:"roles"` // told to the agent
	// Address is its address; if it is not valid, one is taken from the pool for each MAC and kept.
	Address netip.Addr `json:"address"`
	Image   string     `json:"image,omitempty"` // version of the image it boots; "" is the current one
	// Holding: nobody made it known. It gets an address only if all others have theirs, and a boot without a token.
	Holding bool `json:"holding,omitempty"`
}

// registry is the known machines and the addresses given to their MACs. It is a value: with makes a new one.
type registry struct {
	Machines  []Machine             `json:"machines"`
	Addresses map[string]netip.Addr `json:"addresses"` // by MAC; an address stays with its MAC while the machine is known
}

// addressPlan is where addresses come from.
type addressPlan struct {
	network netip.Prefix
	server  netip.Addr
	first   netip.Addr
}

func (o *Options) addresses() addressPlan {
	return addressPlan{network: o.Network, server: o.ServerAddress, first: o.PoolFirst}
}

func (r registry) lookup(mac string) (Machine, netip.Addr, bool) {
	for _, m := range r.Machines {
		for _, own := range m.MACs {
			if own == mac {
				return m, r.Addresses[mac], true
			}
		}
	}
	return Machine{}, netip.Addr{}, false
}

func (r registry) equal(o registry) bool { return reflect.DeepEqual(r, o) }

// with returns the registry of these machines. It refuses a MAC or an address that two of them claim: no address is
// ever given twice.
func (r registry) with(machines []Machine, plan addressPlan) (registry, error) {
	next := registry{Addresses: map[string]netip.Addr{}}
	for _, m := range machines {
		m.MACs, m.Roles = slices.Clone(m.MACs), slices.Clone(m.Roles)
		next.Machines = append(next.Machines, m)
	}
	owner := map[netip.Addr]string{plan.server: "the server"}
	claim := func(mac string, a netip.Addr) error {
		if !usable(a, plan.network) {
			return fmt.Errorf("address %s of %s is not usable in %s", a, mac, plan.network)
		}
		if other, taken := owner[a]; taken {
			return fmt.Errorf("address %s of %s belongs to %s", a, mac, other)
		}
		owner[a], next.Addresses[mac] = mac, a
		return nil
	}
	if err := next.claimFixed(claim); err != nil {
		return registry{}, err
	}
	known, held := next.split()
	if err := next.claimPool(known, r.Addresses, heldAddresses(r), claim, plan); err != nil {
		return registry{}, err
	}
	for _, m := range held {
		for _, mac := range m.MACs {
			if a, had := r.Addresses[mac]; had {
				_ = claim(mac, a) // it is another's now: a new one is looked for below
			}
		}
	}
	for _, m := range held { // as many as find an address
		one := registry{Machines: []Machine{m}, Addresses: next.Addresses}
		if err := one.claimPool(one.Machines, r.Addresses, nil, claim, plan); err != nil {
			continue
		}
		known = append(known, m)
	}
	next.Machines = known
	return next, nil
}

// split gives the machines that were made known and those that are held.
func (r registry) split() (known, held []Machine) {
	for _, m := range r.Machines {
		if m.Holding {
			held = append(held, m)
		} else {
			known = append(known, m)
		}
	}
	return known, held
}

// heldAddresses are those that machines have now which are held.
func heldAddresses(r registry) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	_, held := r.split()
	for _, m := range held {
		for _, mac := range m.MACs {
			out[r.Addresses[mac]] = true
		}
	}
	return out
}

// claimFixed checks the machines and gives those with an address of their own that one, on their first MAC.
func (r registry) claimFixed(claim func(string, netip.Addr) error) error {
	seen := map[string]bool{}
	for _, m := range r.Machines {
		if m.ID == "" || len(m.MACs) == 0 {
			return fmt.Errorf("machine %q (%q) lacks an id or a MAC", m.ID, m.Name)
		}
		for i, mac := range m.MACs {
			if canonical, err := parseMAC(mac); err != nil || canonical != mac {
				return fmt.Errorf("MAC %q of machine %q: want six bytes in lower case with colons", mac, m.Name)
			}
			if seen[mac] {
				return fmt.Errorf("MAC %s is given twice", mac)
			}
			seen[mac] = true
			if i == 0 && m.Address.IsValid() {
				if err := claim(mac, m.Address); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// claimPool gives all other MACs of these machines the address they had, and then the lowest free ones in order; those to avoid last.
func (r registry) claimPool(machines []Machine, old map[string]netip.Addr, avoid map[netip.Addr]bool, claim func(string, netip.Addr) error, plan addressPlan) error {
	var fresh []string
	for _, m := range machines {
		for _, mac := range m.MACs {
			if _, done := r.Addresses[mac]; done {
				continue
			}
			if a, had := old[mac]; !had || claim(mac, a) != nil {
				fresh = append(fresh, mac)
			}
		}
	}
	next := plan.first
	for _, mac := range fresh {
		for usable(next, plan.network) && (avoid[next] || claim(mac, next) != nil) {
			next = next.Next()
		}
		if usable(next, plan.network) {
			continue
		}
		if len(avoid) == 0 {
			return fmt.Errorf("no address is left in %s for %s", plan.network, mac)
		}
		return r.claimPool(machines, old, nil, claim, plan) // what is done already stays
	}
	return nil
}

// usable tells whether a machine may have the address: inside the network, neither its first nor its last.
func usable(a netip.Addr, network netip.Prefix) bool {
	return a.Is4() && network.Contains(a) && a != network.Addr() && network.Contains(a.Next())
}

func readRegistry(path string) (registry, error) {
	r := registry{Addresses: map[string]netip.Addr{}}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read netboot cache: %w", err)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("decode netboot cache %s: %w", path, err)
	}
	return r, nil
}

func (r registry) write(path string) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode netboot cache: %w", err)
	}
	if err := writeDurably(path, raw); err != nil {
		return fmt.Errorf("write netboot cache: %w", err)
	}
	return nil
}

// writeDurably replaces a file: after a crash there is the old or the new one, and the new one once it returned nil.
func writeDurably(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// parseMAC returns the canonical form of an Ethernet address written with colons or dashes.
func parseMAC(s string) (string, error) {
	if len(s) != 17 {
		return "", fmt.Errorf("MAC of %d characters: want 17", len(s))
	}
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return "", fmt.Errorf("MAC %q: want six bytes", s)
	}
	return strings.ToLower(hw.String()), nil
}
