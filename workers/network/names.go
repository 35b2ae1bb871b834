package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Names of devices inside the namespace of a network. They can be the same in each.
const (
	Bridge = "br"
	Tunnel = "vx"

	GatewayPort = "gw" // of a machine that is a gateway of the network (package gateway)
)

// Port is the UDP port of the tunnels (RFC 7348, 8).
const Port = 4789

const prefix = "ce-"

// Namespace gives the name of a network's namespace, which its domains' configuration has as the bridge.
func Namespace(vni int) string { return prefix + strconv.Itoa(vni) }

// VNIOf reads what Namespace gave.
func VNIOf(name string) (int, bool) {
	text, ours := strings.CutPrefix(name, prefix)
	vni, err := strconv.Atoi(text)
	return vni, ours && err == nil && vni > 0 && vni < 1<<24 && Namespace(vni) == name
}

// ServerMAC gives the MAC address of the bridges of a network: the same on each host, so that a guest that moves finds its servers.
func ServerMAC(vni int) string {
	return fmt.Sprintf("02:ce:00:%02x:%02x:%02x", byte(vni>>16), byte(vni>>8), byte(vni))
}

// Device gives the name of a vif, as xen-netback has it.
func Device(domid, devid int) string { return fmt.Sprintf("vif%d.%d", domid, devid) }

// isVif says whether a device is one.
func isVif(device string) bool {
	dom, dev, ok := strings.Cut(strings.TrimPrefix(device, "vif"), ".")
	_, err1 := strconv.ParseUint(dom, 10, 31)
	_, err2 := strconv.ParseUint(dev, 10, 31)
	return ok && strings.HasPrefix(device, "vif") && err1 == nil && err2 == nil
}

// linkLocal gives the IPv6 link-local address that follows from a MAC address (RFC 4291, appendix A).
func linkLocal(mac [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}
