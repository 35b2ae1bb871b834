package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Edges is what is asked of the machine's kernel. Kernel is the real one.
type Edges interface {
	// Networks lists the identifiers of the networks that have a namespace, sorted; all of them, or an error.
	Networks() ([]int, error)
	// Vifs lists the vifs that are in no namespace of a network.
	Vifs() ([]string, error)
	State(vni int) (State, error)
	// Filter says whom the port of tunnels is open to, as filterOf does.
	Filter() (string, error)
	SetFilter(want string) error

	Make(vni, mtu int, mac string) error
	Guard(vni int, servers []string) error
	Sweep(vni int) error
	Tunnel(vni, mtu int, local string, servers []string) error
	SetAddresses(vni int, want []string) error
	SetNeighbours(vni int, want []string) error
	SetSwitch(vni int, want []string) error
	SetRemotes(vni int, want []string) error
	Plug(v Vif, mtu int) error
	Shut(vni int, device string) error
	Remove(vni int) error
}

var _ Edges = Kernel{}

// Worker keeps a host's networks. Safe for concurrent use; its fields must not be changed once it is used.
type Worker struct {
	Edges Edges // nil: Kernel{}
	// Domains lists the vifs of all domains, as xenstore has them.
	Domains func(ctx context.Context) ([]Vif, error)
	Load    func(module string, params ...string) error // loads a kernel module that is not there
	Changed func()                                      // is called when what Standing gives has changed; may be nil

	Patience time.Duration // that Ready waits for a network; 0: 15 s

	mu     sync.Mutex
	loaded bool
	stands map[int]Wish
	news   chan struct{} // is closed when stands has changed
}

// modules that the kernel cannot load by itself here: there is no modprobe. The checksum comes first and by name: nf_tables asks for it by an alias.
var modules = []string{"crc32c_generic", "bridge", "vxlan", "nf_tables", "nft_limit", "nft_fwd_netdev", "sch_htb", "sch_fq_codel", "xen-netback"}

func (w *Worker) edges() Edges {
	if w.Edges == nil {
		return Kernel{}
	}
	return w.Edges
}

// Observe reads namespaces first and domains then: a vif in a namespace has a domain by then, or its domain is gone.
func (w *Worker) Observe(ctx context.Context) (Observed, error) {
	if err := w.prepare(); err != nil {
		return Observed{}, err
	}
	e := w.edges()
	vnis, err := e.Networks()
	if err != nil {
		return Observed{}, err
	}
	o := Observed{Nets: map[int]State{}}
	for _, vni := range vnis {
		s, err := e.State(vni)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed just now
		}
		if err != nil {
			return Observed{}, err
		}
		o.Nets[vni] = s
	}
	if o.Home, err = e.Vifs(); err != nil {
		return Observed{}, err
	}
	if o.Filter, err = e.Filter(); err != nil {
		return Observed{}, err
	}
	if o.Vifs, err = w.Domains(ctx); err != nil {
		return Observed{}, fmt.Errorf("list vifs of domains: %w", err)
	}
	return o, nil
}

// prepare loads what the kernel needs, once.
func (w *Worker) prepare() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loaded || w.Load == nil {
		return nil
	}
	for _, m := range modules {
		if err := w.Load(m); err != nil {
			return err
		}
	}
	if err := w.Load("ifb", "numifbs=0"); err != nil { // without parameters it makes two devices that nobody wants
		return err
	}
	w.loaded = true
	return nil
}

// Plan is PlanNetworks over documents. It also notes which networks stand.
func (w *Worker) Plan(docs []desired.Document, seen Observed) []workers.Plan {
	wishes := Decode(docs)
	stands := map[int]Wish{}
	for _, x := range wishes {
		if have, there := seen.Nets[x.VNI]; x.Want == desired.There && x.check() == nil && there && x.standsAs(have) {
			stands[x.VNI] = x
		}
	}
	w.mu.Lock()
	changed := len(stands) != len(w.stands)
	for vni, x := range stands {
		was, is := w.stands[vni]
		changed = changed || !is || was.Generation != x.Generation
	}
	w.stands = stands
	if changed && w.news != nil {
		close(w.news)
		w.news = nil
	}
	w.mu.Unlock()
	if changed && w.Changed != nil {
		w.Changed()
	}
	return PlanNetworks(wishes, seen)
}

// standsAs says whether a guest could be plugged in: its frames would go nowhere else, and its servers can be reached.
func (w Wish) standsAs(have State) bool {
	want := w.wanted(nil)
	return have.Up && have.MAC == want.MAC && have.MTU == want.MTU && have.Local == want.Local && (want.Local == "" || have.Guard != "")
}

// Standing gives the documents of the networks that stood at the last look, by identifier.
func (w *Worker) Standing() []desired.Network {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []desired.Network
	for _, n := range w.stands {
		out = append(out, n.Network)
	}
	slices.SortFunc(out, func(a, b desired.Network) int { return a.VNI - b.VNI })
	return out
}

var errNotThere = errors.New("the network is not there yet")

// Ready waits a little until a domain with a NIC on a network can be made.
func (w *Worker) Ready(ctx context.Context, vni int) error {
	patience := w.Patience
	if patience == 0 {
		patience = 15 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		there, news := w.look(vni)
		if there {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return errNotThere
		}
	}
}

// look says whether a network stood at the last look, and what is closed when that changes.
func (w *Worker) look(vni int) (bool, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.news == nil {
		w.news = make(chan struct{})
	}
	_, there := w.stands[vni]
	return there, w.news
}

// Limit gives a vif that is plugged in the limits of its NIC, without waiting for the next look: before its guest runs for the first time.
func (w *Worker) Limit(vni, domid, id int, mac string, addresses []string) error {
	w.mu.Lock()
	wish, there := w.stands[vni]
	w.mu.Unlock()
	if !there {
		return errNotThere
	}
	return w.edges().Plug(wish.limited(Vif{Device: Device(domid, id), VNI: vni, MAC: mac, Addresses: addresses}), wish.MTU)
}

// Name gives the name under which a domain's configuration has a network.
func (w *Worker) Name(vni int) string { return Namespace(vni) }

// Report has nothing to say: what a NIC waits for is told by its domain's step.
func (w *Worker) Report([]desired.Document, Observed, map[events.Ref]bool) events.StorageReport {
	return events.StorageReport{}
}

// Apply does one step.
func (w *Worker) Apply(_ context.Context, s workers.Step) error {
	if s.Kind == stepRefuse {
		return workers.Permanent(errors.New(s.Params["reason"]))
	}
	e := w.edges()
	switch s.Kind {
	case stepPlug, stepShut:
		return w.port(s)
	case stepFilter:
		return e.SetFilter(s.Params["want"])
	}
	vni, err := strconv.Atoi(s.Target)
	if err != nil {
		return workers.Permanent(fmt.Errorf("read network of step %s: %w", s.Kind, err))
	}
	list := strings.Fields(s.Params["list"])
	switch s.Kind {
	case stepAddresses:
		return e.SetAddresses(vni, list)
	case stepNeighbours:
		return e.SetNeighbours(vni, list)
	case stepSwitch:
		return e.SetSwitch(vni, list)
	case stepRemotes:
		return e.SetRemotes(vni, list)
	case stepGuard:
		return e.Guard(vni, list)
	case stepSweep:
		return e.Sweep(vni)
	case stepRemove:
		return e.Remove(vni)
	}
	mtu, err := strconv.Atoi(s.Params["mtu"])
	if err != nil {
		return workers.Permanent(fmt.Errorf("read MTU: %w", err))
	}
	switch s.Kind {
	case stepMake:
		return e.Make(vni, mtu, s.Params["mac"])
	case stepTunnel:
		return e.Tunnel(vni, mtu, s.Params["local"], list)
	}
	return workers.Permanent(fmt.Errorf("step %q is not known", s.Kind))
}

func (w *Worker) port(s workers.Step) error {
	vni, err := strconv.Atoi(s.Params["vni"])
	if err != nil {
		return workers.Permanent(fmt.Errorf("read network of vif %s: %w", s.Target, err))
	}
	if s.Kind == stepShut {
		return w.edges().Shut(vni, s.Target)
	}
	mtu, err := strconv.Atoi(s.Params["mtu"])
	if err != nil {
		return workers.Permanent(fmt.Errorf("read MTU of vif %s: %w", s.Target, err))
	}
	limits, err := parseLimits(s.Params["limits"])
	if err != nil {
		return workers.Permanent(err)
	}
	err = w.edges().Plug(Vif{Device: s.Target, VNI: vni, MAC: s.Params["mac"], Addresses: strings.Fields(s.Params["addresses"]), Limits: &limits}, mtu)
	if errors.Is(err, ErrNoDevice) {
		return nil // its domain has ended
	}
	return err
}
