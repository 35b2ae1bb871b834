package host

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Worker joins the edges for the loop of package workers.
type Worker struct {
	Boot     string
	Tools    Toolstack
	Store    Store
	Blobs    Blobs
	Disks    Disks    // nil: no domain with disks is made
	NICs     NICs     // nil: no domain with NICs is made
	Seeds    Seeds    // nil: no domain with a seed is made
	Throttle Throttle // nil: a disk with limits is a step that fails
	TSCMode  string   // of PVH and HVM domains; empty leaves it to Xen
	// Console says in which file the consoles of a name are kept; nil: HVM domains have no serial port.
	Console func(name string) string
	// ForgetConsole removes what a VM's domains have printed; may be nil.
	ForgetConsole func(vm events.VMID) error
	Now           func() time.Time // the clock; time.Now

	reader   reader
	mu       sync.Mutex
	made     map[string]int // domid of a domain that a step under way has made, by name
	answered map[workers.EndKey]bool
}

// Answered says that the control plane knows these ends.
func (w *Worker) Answered(ends []events.DomainEnded) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered == nil {
		w.answered = map[workers.EndKey]bool{}
	}
	for _, e := range ends {
		w.answered[workers.KeyOf(e)] = true
	}
}

// Unanswered says that all ends have to be told again.
func (w *Worker) Unanswered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.answered)
}

// Observe reads domains, stamps and files. The stamps are read AFTER the domains: a domain that is listed has its stamp by then,
// or never had one.
func (w *Worker) Observe(ctx context.Context) (Observed, error) {
	o := Observed{Boot: w.Boot, Now: w.now(), Blobs: map[string]bool{}, Answered: map[workers.EndKey]bool{}}
	var err error
	if o.Models, err = w.Tools.DeviceModels(ctx); err != nil {
		return Observed{}, err
	}
	if w.Seeds != nil {
		if o.Seeds, err = w.Seeds.Have(ctx); err != nil {
			return Observed{}, err
		}
	}
	if o.Domains, err = w.Tools.List(ctx); err != nil {
		return Observed{}, err
	}
	if o.Stamps, err = w.stamps(ctx); err != nil {
		return Observed{}, err
	}
	if err := w.missingModels(ctx, &o); err != nil {
		return Observed{}, err
	}
	o.Limits, _ = w.limits(ctx) // a throttle that cannot be read fails at the step that sets it, and hides no domain
	have, err := w.Blobs.Have()
	if err != nil {
		return Observed{}, err
	}
	for _, b := range have {
		o.Blobs[b] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for e := range w.answered {
		o.Answered[e] = true
	}
	return o, nil
}

func (w *Worker) now() time.Time {
	if w.Now != nil {
		return w.Now()
	}
	return time.Now()
}

func (w *Worker) stamps(ctx context.Context) ([]Stamp, error) {
	ids, err := w.Store.Children(ctx, StampRoot)
	if err != nil {
		return nil, fmt.Errorf("list stamps: %w", err)
	}
	var out []Stamp
	for _, id := range ids {
		domid, err := strconv.Atoi(id)
		if err != nil {
			continue
		}
		s, ok, err := w.readStamp(ctx, domid)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, s)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].DomID < out[j].DomID })
	return out, nil
}

func (w *Worker) readStamp(ctx context.Context, domid int) (Stamp, bool, error) {
	nodes := map[string]string{}
	for _, n := range []string{nodeVM, nodeEpoch, nodeBoot, nodeRestarts, nodeAsked, nodeHow, nodeResizes, nodeType, nodeUUID} {
		v, err := w.Store.Read(ctx, stampPath(domid)+"/"+n)
		if err != nil && !errors.Is(err, ErrNoNode) {
			return Stamp{}, false, fmt.Errorf("read stamp of domain %d: %w", domid, err)
		}
		nodes[n] = v
	}
	s, ok := ParseStamp(domid, nodes)
	return s, ok, nil
}

// Plan is PlanDomains over documents.
func (w *Worker) Plan(docs []desired.Document, seen Observed) []workers.Plan {
	wishes, orphans := w.reader.decode(docs)
	return PlanDomains(wishes, orphans, seen)
}

// Describe is the report of what was seen.
func (w *Worker) Describe(docs []desired.Document, seen Observed, busy map[events.Ref]bool) workers.Snapshot {
	wishes, _ := w.reader.decode(docs)
	return Describe(wishes, seen, busy)
}

// Apply does one step.
func (w *Worker) Apply(ctx context.Context, s workers.Step) error {
	switch s.Kind {
	case stepFetch:
		size, _ := strconv.ParseInt(s.Params["size"], 10, 64)
		return w.Blobs.Fetch(ctx, s.Target, size)
	case stepDisk:
		_, err := w.disks(ctx, s)
		return err
	case stepNIC:
		_, err := w.nics(ctx, s)
		return err
	case stepSeed:
		_, err := w.seedDisk(ctx, s)
		return err
	case stepUnseed:
		return w.unseed(ctx, s.Target)
	case stepLimit:
		return w.setLimits(ctx, s)
	case stepCreate:
		return w.create(ctx, s)
	case stepForget:
		return w.forget(ctx, s)
	case stepEndModel:
		return w.endModel(ctx, s)
	}
	domid, err := w.target(ctx, s)
	if err != nil {
		return err
	}
	switch s.Kind {
	case stepStamp:
		return w.stamp(ctx, domid, s)
	case stepTakeOver:
		return w.takeOver(ctx, domid, s)
	case stepVerify:
		return w.verify(ctx, domid, s)
	case stepAttached:
		if err := w.checkPlugged(ctx, domid, s); err != nil {
			return err
		}
		return w.checkAttached(ctx, domid, s)
	case stepStart, stepUnpause:
		return w.Tools.Act(ctx, ActUnpause, domid)
	case stepPause:
		return w.Tools.Act(ctx, ActPause, domid)
	case stepWeight:
		n, err := strconv.Atoi(s.Params["weight"])
		if err != nil {
			return workers.Permanent(fmt.Errorf("read weight: %w", err))
		}
		return w.Tools.SetWeight(ctx, domid, n)
	case stepResize:
		return w.resize(ctx, domid, s)
	case stepAsk:
		if err := w.Store.Write(ctx, stampPath(domid)+"/"+nodeAsked, formatTime(w.now())); err != nil {
			return fmt.Errorf("note that the guest was asked: %w", err)
		}
		return w.Tools.Act(ctx, ActShutdown, domid)
	case stepDestroy:
		return w.destroy(ctx, domid, s)
	case stepUnmake:
		return w.Tools.Act(ctx, ActDestroy, domid)
	}
	return workers.Permanent(fmt.Errorf("step %q is not known", s.Kind))
}

var (
	errGone  = errors.New("the domain is not there any more")
	errOther = errors.New("the domain id belongs to another domain now")
)

// target finds the domain id of a step, and makes sure that it still is the domain that the plan meant.
func (w *Worker) target(ctx context.Context, s workers.Step) (int, error) {
	domid, err := strconv.Atoi(s.Target)
	if err != nil {
		w.mu.Lock()
		id, ok := w.made[s.Target]
		w.mu.Unlock()
		if !ok {
			return 0, errGone
		}
		domid = id
	}
	uuid, err := domainUUID(ctx, w.Store, domid)
	switch {
	case errors.Is(err, ErrNoNode) && (s.Kind == stepDestroy || s.Kind == stepUnmake):
		return domid, nil // an earlier destroy was cut off
	case err == nil && s.Kind == stepUnmake:
		return 0, errOther
	case errors.Is(err, ErrNoNode):
		return 0, errGone
	case err != nil:
		return 0, err
	case uuid != s.Params["uuid"]:
		return 0, errOther
	}
	return domid, nil
}

func (w *Worker) create(ctx context.Context, s workers.Step) error {
	c, err := configOf(s, w.TSCMode, w.Blobs.Path)
	if err != nil {
		return workers.Permanent(err)
	}
	if c.Disks, err = w.disks(ctx, s); err != nil {
		return err
	}
	if c.NICs, err = w.nics(ctx, s); err != nil {
		return err
	}
	seed, err := w.seedDisk(ctx, s)
	if err != nil {
		return err
	}
	c.Disks = append(c.Disks, seed...)
	if c.Type == events.TypeHVM && w.Console != nil {
		c.Console = w.Console(c.Name)
	}
	if err := w.Tools.Create(ctx, c); err != nil {
		return err
	}
	domid, err := findDomain(ctx, w.Store, c.Name, c.UUID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.made == nil {
		w.made = map[string]int{}
	}
	w.made[c.Name] = domid
	return nil
}

func (w *Worker) stamp(ctx context.Context, domid int, s workers.Step) error {
	want, err := stampOfStep(domid, s)
	if err != nil {
		return workers.Permanent(err)
	}
	if err := w.Store.Remove(ctx, stampPath(domid)); err != nil {
		return fmt.Errorf("remove an old stamp: %w", err)
	}
	for _, n := range want.nodes() {
		if err := w.Store.Write(ctx, stampPath(domid)+"/"+n[0], n[1]); err != nil {
			return fmt.Errorf("write stamp: %w", err)
		}
	}
	return nil
}

// takeOver stamps a domain that someone else has made, once nobody else acts at its end.
func (w *Worker) takeOver(ctx context.Context, domid int, s workers.Step) error {
	name, err := w.Store.Read(ctx, "/local/domain/"+strconv.Itoa(domid)+"/name")
	if err != nil {
		return fmt.Errorf("read name of domain %d: %w", domid, err)
	}
	if err := w.Tools.Release(ctx, name); err != nil {
		return err
	}
	return w.stamp(ctx, domid, s)
}

func stampOfStep(domid int, s workers.Step) (Stamp, error) {
	epoch, err := events.ParseEpoch(s.Params["epoch"])
	if err != nil {
		return Stamp{}, err
	}
	restarts, err := strconv.Atoi(s.Params["restarts"])
	if err != nil {
		return Stamp{}, fmt.Errorf("read restarts: %w", err)
	}
	resizes, err := strconv.Atoi(s.Params["resizes"])
	if err != nil {
		return Stamp{}, fmt.Errorf("read resizes: %w", err)
	}
	return Stamp{
		DomID: domid, UUID: s.Params["uuid"], VM: events.VMID(s.Params["vm"]), Epoch: epoch, Boot: s.Params["boot"], Restarts: restarts,
		Resizes: resizes, Type: s.Params["type"],
	}, nil
}

var errStamp = errors.New("the stamp that was read back is not the one that was written")

func (w *Worker) verify(ctx context.Context, domid int, s workers.Step) error {
	want, err := stampOfStep(domid, s)
	if err != nil {
		return workers.Permanent(err)
	}
	got, ok, err := w.readStamp(ctx, domid)
	if err != nil {
		return err
	}
	if !ok || got != want {
		return errStamp
	}
	return nil
}

func (w *Worker) destroy(ctx context.Context, domid int, s workers.Step) error {
	if how := s.Params["how"]; how != "" {
		if err := w.Store.Write(ctx, stampPath(domid)+"/"+nodeHow, how); err != nil {
			return fmt.Errorf("note how the domain ends: %w", err)
		}
	}
	w.liftLimits(ctx, domid)
	if err := w.Tools.Act(ctx, ActDestroy, domid); err != nil {
		return err
	}
	return w.modelEnds(ctx, domid)
}

// forget removes a stamp, if it still is the one that the plan meant, and before it what the domains of its VM have printed, if they are
// not needed any more.
func (w *Worker) forget(ctx context.Context, s workers.Step) error {
	domid, err := strconv.Atoi(s.Target)
	if err != nil {
		return workers.Permanent(fmt.Errorf("read domain id: %w", err))
	}
	uuid, err := w.Store.Read(ctx, stampPath(domid)+"/"+nodeUUID)
	if errors.Is(err, ErrNoNode) || err == nil && uuid != s.Params["uuid"] {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read stamp: %w", err)
	}
	if vm := s.Params["console"]; vm != "" && w.ForgetConsole != nil {
		if err := w.ForgetConsole(events.VMID(vm)); err != nil {
			return err
		}
	}
	return w.Store.Remove(ctx, stampPath(domid))
}
