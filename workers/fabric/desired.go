package fabric

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// The transports.
const (
	SRP   = events.TransportSRP
	ISCSI = events.TransportISCSI
	VXLAN = events.TransportVXLAN // an underlay: package network makes the tunnels over it
)

// Wish is what one document wants of one card.
type Wish struct {
	desired.Fabric
	ID         string // of the document
	Generation events.Generation
}

// Decode reads documents. For one that it cannot read, or that has no opinion, nothing is done.
func Decode(docs []desired.Document) []Wish {
	var out []Wish
	for _, d := range docs {
		if d.Kind != desired.KindFabric {
			continue
		}
		var f desired.Fabric
		if err := json.Unmarshal(d.Body, &f); err != nil || f.Want != desired.There && f.Want != desired.Absent {
			continue
		}
		f.MAC = strings.ToLower(f.MAC)
		out = append(out, Wish{Fabric: f, ID: d.ID, Generation: d.Generation})
	}
	return out
}

func (w Wish) object() events.Ref { return events.Ref{Kind: desired.KindFabric, ID: w.ID} }

// check says what is wrong with a wish that can never be fulfilled.
func (w Wish) check() (netip.Prefix, error) {
	p, err := netip.ParsePrefix(w.Address)
	switch {
	case w.Transport != SRP && w.Transport != ISCSI && w.Transport != VXLAN:
		return netip.Prefix{}, fmt.Errorf("read the fabric's document: transport %q is not known", w.Transport)
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("read the fabric's document: %w", err)
	case !p.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("read the fabric's document: address %s is not IPv4", w.Address)
	}
	return p, nil
}

// InterfaceID gives the modified EUI-64 interface identifier (RFC 4291, appendix A) of an Ethernet address as 16 hex digits. It is the lower
// half of the first GID of an RDMA device on that card, whether or not the card has an IPv6 address (the kernel's make_default_gid).
func InterfaceID(mac string) (string, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return "", fmt.Errorf("make an interface identifier: %w", err)
	}
	if len(hw) != 6 {
		return "", fmt.Errorf("make an interface identifier: %s has %d bytes, want 6", mac, len(hw))
	}
	return hex.EncodeToString([]byte{hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]}), nil
}
