// Package rack is a virtual rack of real machines for demonstrations and end-to-end tests.
//
// A rack is one network namespace with two bridges (boot0: the network machines boot from and
// work on; bmc0: the network of their management controllers), and some machines. A machine is a
// QEMU process that boots over boot0 by its iPXE ROM, and an OpenIPMI simulator that is its
// management controller: a real RMCP+ server on its own address, port 623, whose chassis control
// starts and kills the QEMU process.
//
// It promises: everything that it makes is named in its state directory, so another process finds
// and stops it with Open; Up and Down may be called at any time and any number of times; a process
// is signalled only after its command line proved that it is ours; nothing is left after Down but
// the directory with its logs.
//
// It does not know the control plane: it neither configures nor imports it. It needs root, and the
// programs qemu-system-x86_64 and ipmi_sim. Programs that use it must call RunHelper first in main.
package rack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
)

// Names of the bridges inside every rack's namespace.
const (
	BootBridge = "boot0"
	BMCBridge  = "bmc0"
	SANBridge  = "san0" // the storage fabric; there if the rack has storage nodes or proxies
	NetBridge  = "net0" // the underlay of networks of accounts; there if the rack has networks
)

// ErrUnknownMachine is returned for the name of a machine that the rack does not have.
var ErrUnknownMachine = errors.New("no such machine in the rack")

// Config says what a rack is made of. The zero value of each field is its default.
type Config struct {
	// Dir is the state directory; made absolute by New. Default: bin/rack.
	Dir string `json:"dir"`
	// Namespace is the network namespace, below /run/netns. Default: cerack.
	// Racks that live at the same time need different directories and namespaces.
	Namespace string `json:"namespace"`
	// Hosts is the number of machines, 1 to 16. Default: 2.
	Hosts int `json:"hosts"`
	// StorageNodes and Proxies are machines without a hypervisor, named node1, node2, … and proxy1, proxy2, …; at most 8 of each. They and the
	// hosts have a second network card, on SANBridge. A storage node has Disks disks of DiskMiB each (defaults: 4 of 256), which keep
	// what is on them while the rack's directory is there.
	StorageNodes int `json:"storage_nodes,omitempty"`
	Proxies      int `json:"proxies,omitempty"`
	Disks        int `json:"disks,omitempty"`
	DiskMiB      int `json:"disk_mib,omitempty"`
	// StorageMiB is the RAM of a storage node or proxy. Default: 384, of which about 200 are free with all drivers of the storage chain
	// loaded. Less than 320 does not boot: the image may take half of what is left beside the kernel and the packed image.
	StorageMiB int `json:"storage_mib,omitempty"`
	// Networks gives each host a card more, on NetBridge.
	Networks bool `json:"networks,omitempty"`
	// MemoryMiB is the RAM of one host. Default: 2048; the control domain takes 1024 of it.
	MemoryMiB int `json:"memory_mib"`
	// CPUs is the number of processors of one machine. Default: 2.
	CPUs int `json:"cpus"`
	// BootNet and BMCNet are the two networks, each a /24: address 1 is ours, machine i has 10+i.
	// Defaults: 10.77.0.0/24 and 10.77.1.0/24.
	BootNet netip.Prefix `json:"boot_net"`
	BMCNet  netip.Prefix `json:"bmc_net"`
	// Forwards are TCP ports of the outside that lead into the namespace.
	Forwards []Forward `json:"forwards,omitempty"`
	// QEMUArgs are added to the command line of each machine.
	QEMUArgs []string `json:"qemu_args,omitempty"`
	// Progress is told, in one line each, what is being done. May be nil. It is not part of the
	// stored state.
	Progress func(line string) `json:"-"`
}

// Forward leads connections to Listen (host:port outside) to Target (host:port inside).
type Forward struct {
	Listen string `json:"listen"`
	Target string `json:"target"`
}

// Machine is one machine of the rack, as the control plane's inventory needs it.
type Machine struct {
	Name    string     `json:"name"`              // host1, host2, …
	Number  int        `json:"number"`            // from 1
	UUID    string     `json:"uuid"`              // SMBIOS system UUID
	Serial  string     `json:"serial"`            // SMBIOS serial number
	MAC     string     `json:"mac"`               // of the NIC on boot0
	Address netip.Addr `json:"address"`           // that it should get by DHCP
	BMC     netip.Addr `json:"bmc"`               // IPMI 2.0 (RMCP+), UDP port 623
	Role    string     `json:"role"`              // host, storage_node or proxy
	SANMAC  string     `json:"san_mac,omitempty"` // of the NIC on san0
	NetMAC  string     `json:"net_mac,omitempty"` // of the NIC on net0

	BMCUser         string `json:"bmc_user"`
	BMCPasswordFile string `json:"bmc_password_file"` // mode 0600, no newline
	SerialLog       string `json:"serial_log"`        // all that its serial port ever printed

	tap    string
	sanTap string // empty: it has no card there
	netTap string // empty: it has no card there
	disks  []string
	dir    string
}

// Roles of machines, as the control plane calls them.
const (
	RoleHost        = "host"
	RoleStorageNode = "storage_node"
	RoleProxy       = "proxy"
)

// minStorageMiB is what the boot image needs to be unpacked.
const minStorageMiB = 320

// hasSAN says whether there is a storage fabric.
func (c Config) hasSAN() bool { return c.StorageNodes+c.Proxies > 0 }

var namespaceName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		c.Dir = filepath.Join("bin", "rack")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("resolve rack directory: %w", err)
	}
	c.Dir = dir
	if c.Namespace == "" {
		c.Namespace = "cerack"
	}
	if c.Hosts == 0 {
		c.Hosts = 2
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 2048
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Disks == 0 {
		c.Disks = 4
	}
	if c.DiskMiB == 0 {
		c.DiskMiB = 256
	}
	if c.StorageMiB == 0 {
		c.StorageMiB = 384
	}
	if !c.BootNet.IsValid() {
		c.BootNet = netip.MustParsePrefix("10.77.0.0/24")
	}
	if !c.BMCNet.IsValid() {
		c.BMCNet = netip.MustParsePrefix("10.77.1.0/24")
	}
	return c, c.validate()
}

func (c Config) validate() error {
	switch {
	case !namespaceName.MatchString(c.Namespace):
		return fmt.Errorf("namespace %q: want lower-case letters, digits and dashes, at most 31", c.Namespace)
	case c.Hosts < 1 || c.Hosts > 16:
		return fmt.Errorf("%d machines: want 1 to 16", c.Hosts)
	case c.StorageNodes < 0 || c.StorageNodes > 8 || c.Proxies < 0 || c.Proxies > 8:
		return fmt.Errorf("%d storage nodes and %d proxies: want at most 8 of each", c.StorageNodes, c.Proxies)
	case c.Disks < 1 || c.Disks > 16 || c.DiskMiB < 64 || c.StorageMiB < minStorageMiB:
		return fmt.Errorf("%d disks of %d MiB and %d MiB of RAM: want 1 to 16 disks of at least 64 MiB, and %d MiB of RAM", c.Disks, c.DiskMiB, c.StorageMiB, minStorageMiB)
	case c.MemoryMiB < 512 || c.CPUs < 1:
		return fmt.Errorf("%d MiB and %d processors: want at least 512 and 1", c.MemoryMiB, c.CPUs)
	}
	for _, p := range []netip.Prefix{c.BootNet, c.BMCNet} {
		if !p.Addr().Is4() || p.Bits() != 24 {
			return fmt.Errorf("network %s: want an IPv4 /24", p)
		}
	}
	if c.BootNet.Overlaps(c.BMCNet) {
		return fmt.Errorf("networks %s and %s overlap", c.BootNet, c.BMCNet)
	}
	return nil
}

// ControlAddress is the control plane's address on boot0.
func (c Config) ControlAddress() netip.Addr { return hostOf(c.BootNet, 1) }

// machine derives machine n (from 1): hosts first, then storage nodes, then proxies. All of it follows from the configuration, so nothing
// about machines is stored.
func (c Config) machine(n int) Machine {
	name, role := fmt.Sprintf("host%d", n), RoleHost
	if k := n - c.Hosts; k > 0 {
		name, role = fmt.Sprintf("node%d", k), RoleStorageNode
		if k -= c.StorageNodes; k > 0 {
			name, role = fmt.Sprintf("proxy%d", k), RoleProxy
		}
	}
	dir := filepath.Join(c.Dir, name)
	id := sha256.Sum256([]byte("cloudengine rack " + c.Namespace + " " + name))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562 version 8, variant 2
	m := Machine{
		Name:    name,
		Number:  n,
		Role:    role,
		UUID:    fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16]),
		Serial:  fmt.Sprintf("RACK-%s-%d", c.Namespace, n),
		MAC:     fmt.Sprintf("52:54:00:77:%02x:%02x", id[15], n),
		Address: hostOf(c.BootNet, 10+n),
		BMC:     hostOf(c.BMCNet, 10+n),

		BMCUser:         "admin",
		BMCPasswordFile: filepath.Join(dir, "bmc.pass"),
		SerialLog:       filepath.Join(dir, "serial.log"),

		tap: "tap-" + name,
		dir: dir,
	}
	if c.hasSAN() {
		m.sanTap, m.SANMAC = "san-"+name, fmt.Sprintf("52:54:00:78:%02x:%02x", id[15], n)
	}
	if c.Networks && role == RoleHost {
		m.netTap, m.NetMAC = "net-"+name, fmt.Sprintf("52:54:00:79:%02x:%02x", id[15], n)
	}
	if role == RoleStorageNode {
		for i := range c.Disks {
			m.disks = append(m.disks, filepath.Join(dir, fmt.Sprintf("disk%d.img", i)))
		}
	}
	return m
}

func hostOf(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}
