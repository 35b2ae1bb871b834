package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

const (
	leasePath = RunDir + "/lease.json"
	// networkWait bounds the wait for the first address.
	networkWait = 60 * time.Second
	// dhcpTimeout and dhcpTries bound one exchange on one interface.
	dhcpTimeout = 2 * time.Second
	dhcpTries   = 3
	// renewRetry is the pause after a renewal that failed.
	renewRetry = time.Minute
)

// Lease is the machine's address on the boot network.
type Lease struct {
	Interface string    `json:"interface"`
	MAC       string    `json:"mac"`
	Address   string    `json:"address"` // with prefix length: 10.77.0.11/24
	Router    string    `json:"router,omitempty"`
	DNS       []string  `json:"dns,omitempty"`
	Server    string    `json:"server"`
	Seconds   uint32    `json:"seconds"` // how long it holds
	Obtained  time.Time `json:"obtained"`
}

// upNetwork gives the boot interface its address: the one it has from an earlier start of noded, else one by DHCP.
func upNetwork(ctx context.Context, log *slog.Logger) (Lease, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return Lease{}, fmt.Errorf("find loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return Lease{}, fmt.Errorf("set loopback up: %w", err)
	}
	if l, err := knownLease(leasePath); err == nil {
		log.Info("address kept", "interface", l.Interface, "address", l.Address)
		return l, nil
	}
	ctx, cancel := context.WithTimeout(ctx, networkWait)
	defer cancel()
	for {
		l, err := obtain(ctx, log)
		if err == nil {
			log.Info("address obtained", "interface", l.Interface, "address", l.Address, "server", l.Server)
			return l, nil
		}
		select {
		case <-ctx.Done():
			return Lease{}, fmt.Errorf("obtain an address on the boot network: %w", err)
		case <-time.After(time.Second):
			log.Warn("no address on the boot network yet", "err", err)
		}
	}
}

// knownLease returns the lease that was written down, if the interface still has its address.
func knownLease(path string) (Lease, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return Lease{}, err
	}
	var l Lease
	if err := json.Unmarshal(body, &l); err != nil {
		return Lease{}, err
	}
	link, err := netlink.LinkByName(l.Interface)
	if err != nil {
		return Lease{}, err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return Lease{}, err
	}
	for _, a := range addrs {
		if a.IPNet.String() == l.Address {
			return l, nil
		}
	}
	return Lease{}, errors.New("the interface has no longer this address")
}

// obtain asks on all boot interfaces at once and takes the first answer; the others are left up and without address.
func obtain(ctx context.Context, log *slog.Logger) (Lease, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return Lease{}, fmt.Errorf("read kernel command line: %w", err)
	}
	mac := bootMAC(string(line))
	names, err := bootInterfaces(mac)
	if err != nil {
		return Lease{}, err
	}
	if len(names) == 0 {
		return Lease{}, fmt.Errorf("no network interface of this machine has a driver in the image and the address %q (empty: any)", mac)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		lease Lease
		err   error
	}
	answers := make(chan answer, len(names))
	for _, name := range names {
		go func() {
			l, err := exchange(ctx, name)
			answers <- answer{l, err}
		}()
	}
	var best *Lease
	var errs []error
	for range names {
		a := <-answers // all are waited for: cancel ends them
		if a.err == nil && best == nil {
			best = &a.lease
			cancel()
		} else if a.err != nil {
			errs = append(errs, a.err)
		}
	}
	if best == nil {
		return Lease{}, errors.Join(errs...)
	}
	return *best, apply(*best)
}

// bootMAC returns the address of the interface that the machine booted from, if the kernel command line names it:
// ce.nic=52:54:… of our own script, or BOOTIF=01-52-54-… as pxelinux writes it.
func bootMAC(cmdline string) string {
	for _, word := range strings.Fields(cmdline) {
		if mac, ok := strings.CutPrefix(word, "ce.nic="); ok {
			return strings.ToLower(mac)
		}
		if mac, ok := strings.CutPrefix(word, "BOOTIF=01-"); ok {
			return strings.ToLower(strings.ReplaceAll(mac, "-", ":"))
		}
	}
	return ""
}

// bootInterfaces returns the names of the Ethernet interfaces of real devices, or of the one with this address, and
// sets them up.
func bootInterfaces(mac string) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var names []string
	for _, l := range links {
		a := l.Attrs()
		if _, err := os.Stat(filepath.Join("/sys/class/net", a.Name, "device")); err != nil || len(a.HardwareAddr) != 6 {
			continue
		}
		if mac != "" && a.HardwareAddr.String() != mac {
			continue
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return nil, fmt.Errorf("set %s up: %w", a.Name, err)
		}
		names = append(names, a.Name)
	}
	sort.Strings(names)
	return names, nil
}

// exchange gets one lease on one interface (RFC 2131, 4.4.1), without applying it.
func exchange(ctx context.Context, name string) (Lease, error) {
	client, err := nclient4.New(name, nclient4.WithTimeout(dhcpTimeout), nclient4.WithRetry(dhcpTries))
	if err != nil {
		return Lease{}, fmt.Errorf("open DHCP client on %s: %w", name, err)
	}
	defer client.Close()
	got, err := client.Request(ctx)
	if err != nil {
		return Lease{}, fmt.Errorf("ask for an address on %s: %w", name, err)
	}
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return Lease{}, fmt.Errorf("find %s: %w", name, err)
	}
	return leaseOf(name, iface.HardwareAddr.String(), got.ACK, time.Now())
}

// leaseOf reads a DHCPACK.
func leaseOf(name, mac string, ack *dhcpv4.DHCPv4, now time.Time) (Lease, error) {
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	ones, bits := ack.SubnetMask().Size()
	if !ok || !addr.IsValid() || addr.IsUnspecified() || bits != 32 {
		return Lease{}, fmt.Errorf("read DHCP answer on %s: address %s, mask %s", name, ack.YourIPAddr, ack.SubnetMask())
	}
	l := Lease{Interface: name, MAC: mac, Address: netip.PrefixFrom(addr, ones).String(), Server: ack.ServerIdentifier().String(),
		Seconds: uint32(ack.IPAddressLeaseTime(time.Hour) / time.Second), Obtained: now}
	if r := ack.Router(); len(r) > 0 {
		l.Router = r[0].String()
	}
	for _, d := range ack.DNS() {
		l.DNS = append(l.DNS, d.String())
	}
	return l, nil
}

// apply gives the interface the address, sets the default route and the name servers, and writes the lease down.
func apply(l Lease) error {
	link, err := netlink.LinkByName(l.Interface)
	if err != nil {
		return fmt.Errorf("find %s: %w", l.Interface, err)
	}
	addr, err := netlink.ParseAddr(l.Address)
	if err != nil {
		return fmt.Errorf("set address of %s: %w", l.Interface, err)
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("set address of %s: %w", l.Interface, err)
	}
	if l.Router != "" {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(l.Router)}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("set default route by %s: %w", l.Router, err)
		}
	}
	var resolv strings.Builder
	for _, d := range l.DNS {
		fmt.Fprintf(&resolv, "nameserver %s\n", d)
	}
	if err := os.WriteFile("/etc/resolv.conf", []byte(resolv.String()), 0o644); err != nil {
		return fmt.Errorf("write name servers: %w", err)
	}
	body, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode lease: %w", err)
	}
	if err := os.WriteFile(leasePath, body, 0o600); err != nil {
		return fmt.Errorf("write lease down: %w", err)
	}
	return nil
}

// watchNetwork renews the lease at half of its time. When nobody answers, the address is kept: machines' addresses are
// reservations, and a host that gave its address up because the control plane is away would harm its domains.
func watchNetwork(ctx context.Context, log *slog.Logger, l Lease) error {
	next := l.Obtained.Add(time.Duration(l.Seconds) * time.Second / 2)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(time.Until(next), renewRetry)):
		}
		fresh, err := exchange(ctx, l.Interface)
		switch {
		case err != nil:
			log.Warn("lease not renewed, address kept", "err", err)
			next = time.Now()
			continue
		case fresh.Address != l.Address:
			log.Error("DHCP server offers another address, the old one is kept", "has", l.Address, "offered", fresh.Address)
		default:
			if err := apply(fresh); err != nil {
				log.Error("lease not applied", "err", err)
			}
		}
		next = time.Now().Add(time.Duration(fresh.Seconds) * time.Second / 2)
	}
}
