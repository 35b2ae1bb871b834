package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Worker keeps the gateways of a machine. Safe for concurrent use; its fields must not be changed once it is used.
type Worker struct {
	Kernel Kernel
	Run    string                                      // directory in memory, of this boot, for the gateways' files
	Notify string                                      // what keepalived calls, with the directory of a gateway and a role after it
	Load   func(module string, params ...string) error // loads a kernel module that is not there; may be nil

	mu     sync.Mutex
	loaded bool
}

// modules that the kernel cannot load by itself here: there is no modprobe.
var modules = []string{
	"crc32c_generic", "veth", "macvlan", "nf_tables", "nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nft_ct", "nft_nat", "nft_chain_nat",
}

// Dir gives the directory of a gateway.
func (w *Worker) Dir(vni int) string { return filepath.Join(w.Run, strconv.Itoa(vni)) }

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
	w.loaded = true
	return nil
}

// Observe looks at all gateways of this machine.
func (w *Worker) Observe(context.Context) (Observed, error) {
	if err := w.prepare(); err != nil {
		return Observed{}, err
	}
	o := Observed{Gates: map[int]State{}, Nets: map[int]bool{}}
	nets, err := w.Kernel.Networks.Networks()
	if err != nil {
		return o, err
	}
	locals := map[int]string{}
	for _, vni := range nets {
		s, err := w.Kernel.Networks.State(vni)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return o, err
		}
		o.Nets[vni] = err == nil && s.Up && s.Local != ""
		locals[vni] = s.Local
	}
	gates, err := w.Kernel.Gateways()
	if err != nil {
		return o, err
	}
	for _, vni := range gates {
		s, err := w.state(vni, locals[vni])
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed just now
		}
		if err != nil {
			return o, err
		}
		o.Gates[vni] = s
	}
	return o, nil
}

func (w *Worker) state(vni int, local string) (s State, err error) {
	if s.Up, s.Port, s.Underlay, err = w.Kernel.Stands(vni, local); err != nil {
		return s, err
	}
	if s.Rules, err = w.Kernel.Rules(vni); err != nil {
		return s, err
	}
	dir := w.Dir(vni)
	conntrackd, keepalived := daemons(dir)
	for d, to := range map[*daemon]*string{&conntrackd: &s.Sync, &keepalived: &s.Election} {
		pids, err := d.pids()
		if err != nil {
			return s, err
		}
		if len(pids) > 0 {
			if *to, err = read(d.file); err != nil {
				return s, err
			}
		}
	}
	s.Role, err = read(filepath.Join(dir, roleFile))
	return s, err
}

// Plan is PlanGateways over documents.
func (w *Worker) Plan(docs []desired.Document, seen Observed) []workers.Plan {
	return PlanGateways(Decode(docs), seen, w.Dir, w.Notify)
}

// Report has nothing to say yet.
func (w *Worker) Report([]desired.Document, Observed, map[events.Ref]bool) events.StorageReport {
	return events.StorageReport{}
}

// Apply does one step.
func (w *Worker) Apply(ctx context.Context, s workers.Step) error {
	if s.Kind == stepRefuse {
		return workers.Permanent(errors.New(s.Params["reason"]))
	}
	var x Wish
	if err := json.Unmarshal([]byte(s.Params["wish"]), &x.Gateway); err != nil {
		return workers.Permanent(fmt.Errorf("read wish of step %s: %w", s.Kind, err))
	}
	dir := w.Dir(x.VNI)
	conntrackd, keepalived := daemons(dir)
	switch s.Kind {
	case stepMake:
		return w.Kernel.Make(x)
	case stepRules:
		return w.Kernel.SetRules(x.VNI, x.rules())
	case stepYield:
		return w.Kernel.Yield(x.VNI, s.Params["down"] == "true")
	case stepSync:
		return w.begin(ctx, x.VNI, conntrackd, s.Params["file"])
	case stepElect:
		if err := w.Kernel.Down(x.VNI); err != nil { // it may have been killed while it was active
			return err
		}
		return w.begin(ctx, x.VNI, keepalived, s.Params["file"])
	case stepReload:
		return errors.Join(write(keepalived.file, s.Params["file"]), keepalived.reload())
	case stepRemove:
		if err := errors.Join(keepalived.stop(ctx), conntrackd.stop(ctx)); err != nil {
			return err
		}
		return errors.Join(w.Kernel.Remove(x.VNI), os.RemoveAll(dir))
	}
	return workers.Permanent(fmt.Errorf("step %q is not known", s.Kind))
}

// begin starts a program with a configuration, in the place of one that has another.
func (w *Worker) begin(ctx context.Context, vni int, d daemon, file string) error {
	if err := d.stop(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(w.Dir(vni), 0o700); err != nil {
		return fmt.Errorf("make directory of gateway: %w", err)
	}
	for _, left := range d.locks { // of one that was killed: it would not start
		if err := os.Remove(filepath.Join(w.Dir(vni), left)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what a program left behind: %w", err)
		}
	}
	if err := write(d.file, file); err != nil {
		return err
	}
	return d.start(w.Kernel.Path(vni))
}
