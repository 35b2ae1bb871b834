package network

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

var errKilled = errors.New("killed")

// model is a kernel in memory. It does what Kernel does in the same small steps, and dies before the one after left more; below 0 it does not die.
type model struct {
	nets   map[int]*modelNet
	home   []string
	filter string
	left   int
	broken []string // what must never be, and was
}

type modelNet struct {
	State
	tunnelUp bool
	ports    map[string]*modelPort
	stale    map[string]bool
}

type modelPort struct {
	PortState
	queue   bool
	in, out uint64
}

var _ Edges = (*model)(nil)

// do makes one small step of one edge.
func (m *model) do(f func()) error {
	if m.left == 0 {
		return errKilled
	}
	m.left--
	f()
	m.look()
	return nil
}

func (m *model) all(steps ...func()) error {
	for _, f := range steps {
		if err := m.do(f); err != nil {
			return err
		}
	}
	return nil
}

// look notes what must never be, at whatever moment.
func (m *model) look() {
	for vni, n := range m.nets {
		if n.Local != "" && m.filter == "" {
			m.broken = append(m.broken, fmt.Sprintf("network %d has a tunnel and its port has no filter", vni))
		}
		if n.tunnelUp && n.Guard == "" {
			m.broken = append(m.broken, fmt.Sprintf("the tunnel of %d is up without rules", vni))
		}
		for name, p := range n.ports {
			if p.Up && p.Guard == "" {
				m.broken = append(m.broken, name+" is up without rules")
			}
			if p.Guard == digest(shapedRules(macA, []string{ipA})) && !p.queue {
				m.broken = append(m.broken, name+" sends to a queue that is not there")
			}
		}
	}
}

func (m *model) Networks() ([]int, error) {
	var out []int
	for vni := range m.nets {
		out = append(out, vni)
	}
	slices.Sort(out)
	return out, nil
}

func (m *model) Vifs() ([]string, error) { return slices.Clone(m.home), nil }
func (m *model) Filter() (string, error) { return m.filter, nil }

func (m *model) SetFilter(want string) error { return m.do(func() { m.filter = want }) }

func (m *model) State(vni int) (State, error) {
	n, ok := m.nets[vni]
	if !ok {
		return State{}, fs.ErrNotExist
	}
	s := n.State
	s.VNI, s.Up = vni, s.Up && (s.Local == "" || n.tunnelUp)
	for _, list := range []*[]string{&s.Addresses, &s.Neighbours, &s.Remotes, &s.Switch} {
		*list = slices.Sorted(slices.Values(*list))
	}
	for name := range n.stale {
		s.Stale = append(s.Stale, name)
	}
	slices.Sort(s.Stale)
	for _, name := range slices.Sorted(maps.Keys(n.ports)) {
		p := n.ports[name]
		out := shaperWords(p.out, true)
		if p.queue && p.out == 0 {
			out = []string{"none"}
		}
		p.Shape = shape(shaperWords(p.in, true), out)
		s.Ports = append(s.Ports, p.PortState)
	}
	return s, nil
}

func (m *model) Make(vni, mtu int, mac string) error {
	net := func() *modelNet { return m.nets[vni] }
	return m.all(func() {
		if m.nets[vni] == nil {
			m.nets[vni] = &modelNet{ports: map[string]*modelPort{}, stale: map[string]bool{}}
		}
	}, func() { net().MAC = mac }, func() { net().MTU = mtu }, func() { net().Up = true })
}

func (m *model) Guard(vni int, servers []string) error {
	return m.do(func() { m.nets[vni].Guard = digest(tunnelRules(vni, servers)) })
}

func (m *model) Tunnel(vni, mtu int, local string, servers []string) error {
	n := m.nets[vni]
	err := m.do(func() {
		n.Local, n.Remotes, n.Guard, n.tunnelUp = "", nil, "", false
		n.Switch = slices.DeleteFunc(n.Switch, func(w string) bool { return strings.HasSuffix(w, "@"+Tunnel) })
	})
	if err != nil || local == "" {
		return err
	}
	return m.all(func() {}, func() { n.Local = local }, func() { n.Guard = digest(tunnelRules(vni, servers)) }, func() {}, func() { n.tunnelUp = true })
}

// set makes a list right, word by word.
func (m *model) set(list *[]string, want []string, there func(word string) bool) error {
	return bring(slices.Clone(*list), want,
		func(w string) error {
			return m.do(func() { *list = slices.DeleteFunc(*list, func(x string) bool { return x == w }) })
		},
		func(w string) error {
			return m.do(func() {
				if there(w) {
					*list = append(*list, w)
				}
			})
		})
}

func always(string) bool { return true }

func (m *model) SetAddresses(vni int, want []string) error {
	return m.set(&m.nets[vni].Addresses, want, always)
}

func (m *model) SetNeighbours(vni int, want []string) error {
	return m.set(&m.nets[vni].Neighbours, want, always)
}

func (m *model) SetRemotes(vni int, want []string) error {
	return m.set(&m.nets[vni].Remotes, want, always)
}

func (m *model) SetSwitch(vni int, want []string) error {
	n := m.nets[vni]
	return m.set(&n.Switch, want, func(w string) bool {
		_, port, _ := strings.Cut(w, "@")
		p := n.ports[port]
		return port == Tunnel && n.Local != "" || p != nil && p.Joined
	})
}

func (m *model) Plug(v Vif, mtu int) error {
	n, p := m.nets[v.VNI], m.nets[v.VNI].ports[v.Device]
	if p == nil && !slices.Contains(m.home, v.Device) {
		return ErrNoDevice
	}
	if err := m.do(func() {
		if p == nil {
			p = &modelPort{PortState: PortState{Device: v.Device}}
			n.ports[v.Device], m.home = p, slices.DeleteFunc(m.home, func(d string) bool { return d == v.Device })
		}
	}); err != nil {
		return err
	}
	l := *v.Limits
	if l.Out > 0 {
		if err := m.all(func() { p.queue = true }, func() { p.out = l.Out }); err != nil {
			return err
		}
	}
	return m.all(func() { p.Guard = digest(v.rules()) }, func() {
		if l.Out == 0 {
			p.queue, p.out = false, 0
		}
	}, func() { p.in = 0 }, func() { p.in = l.In }, func() { p.MTU = mtu }, func() { p.Joined = true }, func() {
		if w := v.MAC + "@" + v.Device; !slices.Contains(n.Switch, w) {
			n.Switch = append(n.Switch, w)
		}
	}, func() { p.Up = true })
}

func (m *model) Shut(vni int, device string) error {
	return m.do(func() {
		if p := m.nets[vni].ports[device]; p != nil {
			p.Up = false
		}
	})
}

func (m *model) Sweep(vni int) error {
	for _, name := range slices.Sorted(maps.Keys(m.nets[vni].stale)) {
		if err := m.do(func() { delete(m.nets[vni].stale, name) }); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) Remove(vni int) error {
	return m.all(func() {}, func() { delete(m.nets, vni) })
}

// ends is what is there when a domain has ended: its vif is gone, its rules and its queue are not.
func (m *model) ends(vni int, device string) {
	n := m.nets[vni]
	n.stale[device] = true
	if n.ports[device].queue {
		n.stale[ifbOf(device)] = true
	}
	delete(n.ports, device)
	n.Switch = slices.DeleteFunc(n.Switch, func(w string) bool { return strings.HasSuffix(w, "@"+device) })
}
