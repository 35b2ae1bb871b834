package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Network is what is asked of the machine's kernel. Kernel is the real one.
type Network interface {
	// Cards lists the real network cards with what is on them, by name; all of them, or an error.
	Cards() ([]Card, error)
	SetMTU(device string, bytes int) error
	SetUp(device string) error
	// AddAddress is no error if the card has the address.
	AddAddress(device string, p netip.Prefix) error
	// RemoveAddress is no error if the card does not have it.
	RemoveAddress(device string, p netip.Prefix) error
	// AddRDMA makes a soft RDMA device on a card. It is no error if it is there.
	AddRDMA(name, device string) error
	// RemoveRDMA is no error if it is gone. What is connected over it is cut off.
	RemoveRDMA(name string) error
}

// Worker joins the edges for the loop of package workers. Its methods are safe for concurrent use.
type Worker struct {
	Boot    string  // MAC of the card that the machine booted from
	Network Network // nil: Kernel{}
	// Load loads a kernel module with its dependencies; no error if it is loaded or built in.
	Load func(name string, params ...string) error

	mu     sync.Mutex
	loaded map[string]bool
	links  []Link
}

// module is a kernel module and its parameters.
type module struct {
	name   string
	params []string
	faster bool // only makes another faster, on processors that can: it may be missing
}

// modulesOf a transport's initiator, in this order. The checksums come first and by name: the drivers ask for them by an alias, and an image
// has no program that the kernel could call to load them. The limits of ib_srp (in seconds) are those that package initiator sets: a session
// has them from its first moment.
var modulesOf = map[string][]module{
	SRP: {
		{name: "crc32_generic"}, {name: "crc32_pclmul", faster: true}, {name: "rdma_rxe"}, {name: "sd_mod"},
		{name: "ib_srp", params: []string{"reconnect_delay=3", "fast_io_fail_tmo=2", "dev_loss_tmo=600"}},
	},
	ISCSI: {{name: "crc32c_generic"}, {name: "crc32c_intel", faster: true}, {name: "sd_mod"}, {name: "iscsi_tcp"}},
}

func (w *Worker) network() Network {
	if w.Network == nil {
		return Kernel{}
	}
	return w.Network
}

// Observe reads the cards. An error if it could not read all.
func (w *Worker) Observe(context.Context) (Observed, error) {
	cards, err := w.network().Cards()
	if err != nil {
		return Observed{}, err
	}
	o := Observed{Boot: strings.ToLower(w.Boot), Cards: cards, Loaded: map[string]bool{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	for t := range w.loaded {
		o.Loaded[t] = true
	}
	return o, nil
}

// Plan is PlanFabrics over documents. It also notes what Links returns.
func (w *Worker) Plan(docs []desired.Document, seen Observed) []workers.Plan {
	wishes := Decode(docs)
	w.mu.Lock()
	w.links = linksOf(wishes, seen)
	w.mu.Unlock()
	return PlanFabrics(wishes, seen)
}

// Links lists the attachments that stood at the last look, by the id of their documents.
func (w *Worker) Links() []Link {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.links)
}

// Report has nothing to say: what could not be done is told by the loop.
func (w *Worker) Report([]desired.Document, Observed, map[events.Ref]bool) events.StorageReport {
	return events.StorageReport{}
}

// Apply does one step. It looks first whether the device still is the card that the plan meant, and still may be touched.
func (w *Worker) Apply(_ context.Context, s workers.Step) error {
	switch s.Kind {
	case stepRefuse:
		err := errors.New(s.Params["reason"])
		if s.Params["permanent"] == "true" {
			return workers.Permanent(err)
		}
		return err
	case stepLoad:
		return w.load(s.Target)
	}
	if err := w.still(s.Target, s.Params["mac"]); err != nil {
		return err
	}
	n := w.network()
	switch s.Kind {
	case stepMTU:
		mtu, err := strconv.Atoi(s.Params["mtu"])
		if err != nil {
			return workers.Permanent(fmt.Errorf("read MTU: %w", err))
		}
		return n.SetMTU(s.Target, mtu)
	case stepUp:
		return n.SetUp(s.Target)
	case stepAddRDMA:
		return n.AddRDMA(s.Params["rdma"], s.Target)
	case stepDropRDMA:
		return n.RemoveRDMA(s.Params["rdma"])
	case stepAdd, stepRemove:
		p, err := netip.ParsePrefix(s.Params["address"])
		if err != nil {
			return workers.Permanent(fmt.Errorf("read address: %w", err))
		}
		if s.Kind == stepAdd {
			return n.AddAddress(s.Target, p)
		}
		return n.RemoveAddress(s.Target, p)
	}
	return workers.Permanent(fmt.Errorf("step %q is not known", s.Kind))
}

func (w *Worker) load(transport string) error {
	for _, m := range modulesOf[transport] {
		if err := w.Load(m.name, m.params...); err != nil && !m.faster {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loaded == nil {
		w.loaded = map[string]bool{}
	}
	w.loaded[transport] = true
	return nil
}

var errOther = errors.New("the device is not the card any more that the plan meant")

// still says whether a device is a card with this address that may be touched.
func (w *Worker) still(device, mac string) error {
	if mac == "" || mac == strings.ToLower(w.Boot) {
		return workers.Permanent(errBootCard)
	}
	cards, err := w.network().Cards()
	if err != nil {
		return err
	}
	for _, c := range cards {
		switch {
		case c.Device != device || c.MAC != mac:
			continue
		case c.Master != "":
			return errPort
		}
		return nil
	}
	return errOther
}
