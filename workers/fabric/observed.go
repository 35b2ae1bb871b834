package fabric

import (
	"net/netip"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Observed is what is there, in one look.
type Observed struct {
	Boot   string          // MAC of the card that the machine booted from: never touched
	Cards  []Card          // by device name
	Loaded map[string]bool // transports whose kernel modules this process has loaded
}

// Card is one real network card.
type Card struct {
	Device    string         // eth1
	MAC       string         // lower case, with colons
	MTU       int            // bytes
	Up        bool           // set up, whether or not there is a carrier
	Master    string         // bridge or bond that it is a port of
	Addresses []netip.Prefix // IPv4
	RDMA      string         // RDMA device on it: a soft one, or the card's own
	Soft      bool           // RDMA is a soft device (rxe), which can be taken away
}

func (c Card) has(p netip.Prefix) bool {
	for _, a := range c.Addresses {
		if a == p {
			return true
		}
	}
	return false
}

// Link is an attachment that stands.
type Link struct {
	Fabric    events.FabricID
	Transport string
	Device    string // of the card
	MAC       string
	Address   netip.Prefix
	RDMA      string // RDMA device; empty for iSCSI
}

// linksOf lists what stands of what is wanted.
func linksOf(wishes []Wish, seen Observed) []Link {
	var out []Link
	for _, w := range wishes {
		c, err := w.card(wishes, seen)
		if err != nil || w.Want != desired.There {
			continue
		}
		p, err := w.check()
		if err != nil || !c.Up || !c.has(p) || !seen.Loaded[w.Transport] || w.Transport == SRP && c.RDMA == "" {
			continue
		}
		l := Link{Fabric: w.Fabric.Fabric, Transport: w.Transport, Device: c.Device, MAC: c.MAC, Address: p}
		if w.Transport == SRP {
			l.RDMA = c.RDMA
		}
		out = append(out, l)
	}
	return out
}
