package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"cloudengine/events/desired"
	"cloudengine/workers"
)

// NICs are the networks that vifs of domains are plugged into. The worker of workers/network has them.
type NICs interface {
	// Ready says whether a network stands, by its identifier, so that a vif could be plugged in.
	Ready(ctx context.Context, vni int) error
	// Limit gives the vif of a domain, by its domain's and its own number, the limits of its NIC: before the guest runs for the first time.
	Limit(vni, domid, id int, mac string, addresses []string) error
	// Name gives the name of a network on this host, which is the vif's bridge.
	Name(vni int) string
}

// NIC is a network interface of a domain, as it is made from.
type NIC struct {
	ID        int    // of the vif, from 0
	MAC       string // lower case with colons
	Network   string // the name of what it is plugged into
	MTU       int    // bytes
	Addresses []string
}

// text gives one NIC as xl-network-configuration(5) wants it. Its addresses are for the hotplug script, which puts rules before the vif.
func (n NIC) text() string {
	return fmt.Sprintf("devid=%d,mac=%s,bridge=%s,script=%s,type=vif,mtu=%d,ip=%s", n.ID, n.MAC, n.Network, HotplugScript, n.MTU, strings.Join(n.Addresses, " "))
}

func (n NIC) check() error {
	hw, err := net.ParseMAC(n.MAC)
	if err != nil || len(hw) != 6 || hw.String() != n.MAC || n.ID < 0 || n.ID > 7 || n.MTU < 68 || n.MTU > 65535 || strings.ContainsAny(n.Network, ",\" \\") {
		return fmt.Errorf("vif %d with MAC %q, MTU %d on %q: %w", n.ID, n.MAC, n.MTU, n.Network, errConfig)
	}
	for _, a := range n.Addresses {
		if ip, err := netip.ParseAddr(a); err != nil || ip.String() != a {
			return fmt.Errorf("vif %d with address %q: %w", n.ID, a, errConfig)
		}
	}
	return nil
}

// neededNIC is a NIC that a step needs.
type neededNIC struct {
	id, vni, mtu int
	mac          string
	addresses    []string
}

// printNICs writes the NICs of a document as a step's parameter: slot=network/MTU/MAC/address+address, by slot.
func printNICs(nics []desired.NIC) string {
	out := make([]string, 0, len(nics))
	for _, n := range nics {
		out = append(out, fmt.Sprintf("%s=%d/%d/%s/%s", n.Slot, n.VNI, n.MTU, n.MAC, strings.Join(n.Addresses, "+")))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// parseNICs reads what printNICs wrote.
func parseNICs(text string) ([]neededNIC, error) {
	var out []neededNIC
	for _, word := range strings.Fields(text) {
		slot, rest, ok := strings.Cut(word, "=")
		f := strings.Split(rest, "/")
		if !ok || len(f) != 4 || !strings.HasPrefix(slot, "eth") {
			return nil, fmt.Errorf("read NIC %q: %w", word, errConfig)
		}
		n := neededNIC{mac: f[2]}
		var errs [3]error
		n.id, errs[0] = strconv.Atoi(slot[len("eth"):])
		n.vni, errs[1] = strconv.Atoi(f[0])
		n.mtu, errs[2] = strconv.Atoi(f[1])
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("read NIC %q: %w: %w", word, err, errConfig)
		}
		if f[3] != "" {
			n.addresses = strings.Split(f[3], "+")
		}
		out = append(out, n)
	}
	return out, nil
}

// awaitNICs plans to wait for the networks, before anything is ended or made for them.
func (p *planner) awaitNICs() {
	for _, n := range p.w.NICs {
		p.do(workers.Step{
			Kind: stepNIC, Target: strconv.Itoa(n.VNI), Params: map[string]string{"nics": printNICs([]desired.NIC{n})},
			Why: DomainName(p.w.VM, p.w.Name) + " has it at " + n.Slot,
		})
	}
}

var (
	errNoNICs  = errors.New("this agent has no networks")
	errPlugged = errors.New("the domain has other NICs than its document says")
)

// nics gives the NICs of a step, once their networks stand.
func (w *Worker) nics(ctx context.Context, s workers.Step) ([]NIC, error) {
	need, err := parseNICs(s.Params["nics"])
	if err != nil {
		return nil, workers.Permanent(err)
	}
	if w.NICs == nil && len(need) > 0 {
		return nil, workers.Permanent(errNoNICs)
	}
	var out []NIC
	for _, n := range need {
		if err := w.NICs.Ready(ctx, n.vni); err != nil {
			return nil, fmt.Errorf("NIC eth%d, network %d: %w", n.id, n.vni, err)
		}
		out = append(out, NIC{ID: n.id, MAC: n.mac, Network: w.NICs.Name(n.vni), MTU: n.mtu, Addresses: n.addresses})
	}
	return out, nil
}

// VifRoot is where Xen keeps what a domain's NICs are made of: below dom0, one directory for each domain, and in that one for each NIC.
const VifRoot = "/local/domain/0/backend/vif"

// checkPlugged compares a domain's vifs, as xenstore has them, with the NICs of its document: the hotplug script has put the rules before them
// that follow from there.
func (w *Worker) checkPlugged(ctx context.Context, domid int, s workers.Step) error {
	need, err := parseNICs(s.Params["nics"])
	if err != nil {
		return workers.Permanent(err)
	}
	if w.NICs == nil && len(need) > 0 {
		return workers.Permanent(errNoNICs)
	}
	dir := VifRoot + "/" + strconv.Itoa(domid)
	have, err := w.Store.Children(ctx, dir)
	if err != nil && !errors.Is(err, ErrNoNode) {
		return fmt.Errorf("list NICs of domain %d: %w", domid, err)
	}
	if len(have) != len(need) {
		return fmt.Errorf("it has %d NICs, want %d: %w", len(have), len(need), errPlugged)
	}
	for _, n := range need {
		at := dir + "/" + strconv.Itoa(n.id)
		for node, want := range map[string]string{"mac": n.mac, "bridge": w.NICs.Name(n.vni), "ip": strings.Join(n.addresses, " "), "hotplug-status": "connected"} {
			if got, err := w.Store.Read(ctx, at+"/"+node); err != nil || got != want {
				return fmt.Errorf("NIC eth%d has %s %q, want %q: %w", n.id, node, got, want, errors.Join(err, errPlugged))
			}
		}
		if err := w.NICs.Limit(n.vni, domid, n.id, n.mac, n.addresses); err != nil {
			return fmt.Errorf("limit NIC eth%d: %w", n.id, err)
		}
	}
	return nil
}
