package commands

import (
	"net"
	"slices"
	"strings"
	"unicode/utf8"

	"cloudengine/events"
)

// Bounds of what machines that nobody knows can put into the log and the memory: whoever may send on the boot network can make up MACs.
const (
	MaxDiscovered = 64  // held at a time; more are not recorded until some were added or dropped
	maxDropped    = 256 // remembered, the oldest is forgotten
)

// Discovered is a machine that asked for a boot and is not known.
type Discovered struct {
	ID   string // the 12 digits of its MAC
	Data events.DiscoveredFound
}

// DiscoveredID is the id of the aggregate of a MAC that is written in lower case with colons.
func DiscoveredID(mac string) string { return strings.ReplaceAll(mac, ":", "") }

// ReportDiscovered is netboot's word about a machine that it does not know.
type ReportDiscovered events.DiscoveredFound

func (a ReportDiscovered) check() *Rejection {
	hw, err := net.ParseMAC(a.MAC)
	if err != nil || len(hw) != 6 || hw.String() != a.MAC || hw[0]&1 != 0 {
		return invalid("field \"mac\": %q is not a MAC address like 52:54:00:12:34:56, in lower case", clip(a.MAC))
	}
	for field, s := range map[string]string{"class": a.Class, "serial": a.Serial, "uuid": a.UUID, "manufacturer": a.Manufacturer, "product": a.Product} {
		if len(s) > 64 || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
			return invalid("field %q: want at most 64 printable bytes", field)
		}
	}
	return nil
}

// decideReportDiscovered records a MAC once, and what it says of itself once: nothing that it sends later changes anything.
func decideReportDiscovered(d *decision, a ReportDiscovered) error {
	if _, ours := d.s.macs[a.MAC]; ours {
		return nil
	}
	id := DiscoveredID(a.MAC)
	have, found := d.s.discovered[id]
	says := a.Serial + a.UUID + a.Manufacturer + a.Product
	switch {
	case slices.Contains(d.s.dropped, id), !found && len(d.s.discovered) >= MaxDiscovered:
		return nil
	case found && (have.says() || says == ""):
		return nil
	}
	if found && a.Class == "" { // its ROM said that, and now its iPXE speaks
		a.Class = have.Data.Class
	}
	d.add(events.KindDiscovered, id, events.DiscoveredFound(a))
	return nil
}

func (d *Discovered) says() bool {
	return d.Data.Serial != "" || d.Data.UUID != "" || d.Data.Manufacturer != "" || d.Data.Product != ""
}

// DiscoveredRef names a discovered machine by its MAC.
type DiscoveredRef struct {
	Discovered string `json:"discovered"` // the 12 digits of its MAC
}

func (a DiscoveredRef) check() *Rejection {
	if len(a.Discovered) != 12 || !events.IsToken(a.Discovered) {
		return invalid("field \"discovered\": want the 12 hexadecimal digits of a MAC address, in lower case")
	}
	return nil
}

func decideDropDiscovered(d *decision, a DiscoveredRef) error {
	if _, found := d.s.discovered[a.Discovered]; !found {
		return reject(events.CodeNotFound, "no machine with the MAC address %s was discovered", a.Discovered)
	}
	if err := d.expect(events.KindDiscovered, a.Discovered); err != nil {
		return err
	}
	d.add(events.KindDiscovered, a.Discovered, events.DiscoveredDropped{})
	return nil
}

// addDiscovered ends the discovery of those MACs that a machine is added with.
func (d *decision) addDiscovered(a AddMachine) {
	for _, mac := range a.MACs {
		if _, found := d.s.discovered[DiscoveredID(mac)]; found {
			d.add(events.KindDiscovered, DiscoveredID(mac), events.DiscoveredAdded{Machine: events.MachineID(d.newID())})
		}
	}
}

// Discovered lists the machines that wait to be added or dropped, by MAC.
func (s *State) Discovered() []Discovered {
	out := make([]Discovered, 0, len(s.discovered))
	for _, id := range sortedKeys(s.discovered) {
		out = append(out, *s.discovered[id])
	}
	return out
}

func (s *State) foldDiscovered(e events.Event) {
	id := e.Aggregate.ID
	switch data := e.Data.(type) {
	case events.DiscoveredFound:
		s.discovered[id] = &Discovered{ID: id, Data: data}
	case events.DiscoveredDropped:
		delete(s.discovered, id)
		if s.dropped = append(s.dropped, id); len(s.dropped) > maxDropped {
			s.dropped = slices.Clone(s.dropped[len(s.dropped)-maxDropped:])
		}
	case events.DiscoveredAdded:
		delete(s.discovered, id)
		s.dropped = slices.DeleteFunc(s.dropped, func(o string) bool { return o == id })
	}
}
