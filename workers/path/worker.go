package path

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/initiator"
)

// Initiator logs in and finds what proxies give. The one of package initiator is the real one.
type Initiator interface {
	// Login makes sure that there is a session with a target which works. It may be repeated.
	Login(ctx context.Context, t Target) error
	Logout(ctx context.Context, t Target) error
	// Rescan looks for new units of a target, and for their sizes.
	Rescan(ctx context.Context, t Target) error
	Sessions(ctx context.Context) ([]Session, error)
	LUNs(ctx context.Context) ([]LUN, error)
	// Probe asks a disk whether it serves I/O. An error says that it does not, or did not answer before ctx ended.
	Probe(ctx context.Context, dev string) error
}

var _ Initiator = (*initiator.Initiator)(nil)

// Mapper is device-mapper. Kernel is the real one.
type Mapper interface {
	// List gives our devices, by their UUIDs.
	List() ([]Device, error)
	// Maps gives only those of arrays.
	Maps() ([]Device, error)
	// Paths gives the paths of a map as the kernel sees them now.
	Paths(name string) ([]Path, error)
	Create(name, uuid string, table []Line) error
	// Swap changes a map's table; what waits in it goes on waiting.
	Swap(name string, table []Line) error
	// Reload changes any other device's table, once what is under way is done.
	Reload(name string, table []Line) error
	// Tell sends a message to a map.
	Tell(name, text string) error
	// Remove takes a device away that nobody has open.
	Remove(name string) error
	// Node makes sure that the device's node is there and is the device's.
	Node(name string) error
}

// Worker keeps a host's paths, maps and devices. Safe for concurrent use; its fields must not be changed once it is used.
type Worker struct {
	Initiator Initiator
	Mapper    Mapper
	Load      func(module string, params ...string) error // loads a kernel module that is not there
	Log       *slog.Logger
	Changed   func() // is called when a path begins or ends to work; may be nil

	Listen func() (Listener, error) // to device-mapper's events; nil: nothing tells of them, and paths are asked every Interval

	// Times; zero values get defaults.
	Interval time.Duration // between two checks of all paths; 2 s
	Calm     time.Duration // the same while events are heard and nothing has changed; 10 s
	Hurry    time.Duration // the same while a map has no path that works; 500 ms
	Answer   time.Duration // that a path gets to answer a check; 3 s
	Patience time.Duration // that Ready waits for a device; 15 s

	loading sync.Mutex
	loaded  bool
}

// Defaults of the times between two checks.
const (
	defaultInterval = 2 * time.Second
	defaultCalm     = 10 * time.Second
	defaultHurry    = 500 * time.Millisecond
)

// modules that the kernel cannot load by itself here: there is no modprobe.
var modules = []string{"dm-mod", "dm-multipath", "dm-service-time", "scsi_dh_alua", "sd_mod"}

func (w *Worker) log() *slog.Logger {
	if w.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return w.Log
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// prepare loads what the kernel needs, once. The ALUA handler must be there before the first disk.
func (w *Worker) prepare() error {
	w.loading.Lock()
	defer w.loading.Unlock()
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

// Observe reads sessions, units and devices. Devices come last: a device that is seen over a map has its map seen too.
func (w *Worker) Observe(ctx context.Context) (Observed, error) {
	if err := w.prepare(); err != nil {
		return Observed{}, err
	}
	var o Observed
	var err error
	if o.Sessions, err = w.Initiator.Sessions(ctx); err != nil {
		return Observed{}, fmt.Errorf("list sessions: %w", err)
	}
	if o.LUNs, err = w.Initiator.LUNs(ctx); err != nil {
		return Observed{}, fmt.Errorf("list units: %w", err)
	}
	if o.Devices, err = w.Mapper.List(); err != nil {
		return Observed{}, err
	}
	return o, nil
}

// Plan is PlanPaths.
func (w *Worker) Plan(docs []desired.Document, seen Observed) []workers.Plan {
	return PlanPaths(docs, seen)
}

// Report is the package's Report.
func (w *Worker) Report(docs []desired.Document, seen Observed, busy map[events.Ref]bool) events.StorageReport {
	return Report(docs, seen, busy)
}

// Apply does one step.
func (w *Worker) Apply(ctx context.Context, s workers.Step) error {
	t := Target{Transport: s.Params["transport"], Machine: events.MachineID(s.Target), Address: s.Params["address"]}
	switch s.Kind {
	case stepLogin:
		return w.Initiator.Login(ctx, t)
	case stepRescan:
		return w.Initiator.Rescan(ctx, t)
	case stepLogout:
		return w.Initiator.Logout(ctx, t)
	case stepMap, stepRemap:
		return w.join(ctx, s)
	case stepUnmap:
		if err := w.Mapper.Tell(s.Target, "fail_if_no_path"); err != nil {
			return err
		}
		return w.Mapper.Remove(s.Target)
	case stepCut, stepRecut:
		return w.cut(s)
	case stepUncut:
		return w.Mapper.Remove(s.Target)
	}
	return workers.Permanent(fmt.Errorf("step %q is not known", s.Kind))
}

// join makes a map, or gives it other paths, and checks them at once: the kernel takes new paths for good ones.
func (w *Worker) join(ctx context.Context, s workers.Step) error {
	bytes, err := strconv.ParseInt(s.Params["bytes"], 10, 64)
	paths := strings.Fields(s.Params["paths"])
	if err != nil || len(paths) == 0 {
		return workers.Permanent(fmt.Errorf("read map of %s bytes over %q: %w", s.Params["bytes"], paths, errTable))
	}
	table := multipathTable(bytes, paths)
	if s.Kind == stepMap {
		err = w.Mapper.Create(s.Target, s.Params["uuid"], table)
	} else {
		err = w.Mapper.Swap(s.Target, table)
	}
	if err != nil {
		return err
	}
	w.check(ctx)
	return nil
}

func (w *Worker) cut(s workers.Step) error {
	table, err := parseTable(s.Params["table"])
	if err != nil {
		return workers.Permanent(err)
	}
	if s.Kind == stepCut {
		return w.Mapper.Create(s.Target, s.Params["uuid"], table)
	}
	return w.Mapper.Reload(s.Target, table)
}

var errNotReady = errors.New("the disk's device does not stand")

// Ready waits until the device of a volume stands, is as large as it should be, and leads to its array by a path that works. It gives the
// device's path. After Patience, or when ctx ends, the error says what is missing.
func (w *Worker) Ready(ctx context.Context, volume events.VolumeID, array events.ArrayID, bytes int64) (path string, err error) {
	ctx, cancel := context.WithTimeout(ctx, or(w.Patience, 15*time.Second))
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		err := w.ready(volume, array, bytes)
		if err == nil {
			return VolumePath(volume), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("disk of volume %s: %w", volume, err)
		case <-tick.C:
		}
	}
}

// lookAgain is the time between two looks while something is waited for.
const lookAgain = 200 * time.Millisecond

func (w *Worker) ready(volume events.VolumeID, array events.ArrayID, bytes int64) error {
	devices, err := w.Mapper.List()
	if err != nil {
		return err
	}
	seen := Observed{Devices: devices}
	m, mapped := seen.device(MapUUID(array))
	dev, there := seen.device(VolumeUUID(volume))
	switch {
	case !mapped:
		return fmt.Errorf("there is no path to array %s: %w", array, errNotReady)
	case !there:
		return fmt.Errorf("it is not cut out of array %s yet: %w", array, errNotReady)
	case dev.Name != VolumeName(volume) || dev.Unsettled || dev.Bytes() != bytes:
		return fmt.Errorf("device %s has %d bytes, want %d: %w", dev.Name, dev.Bytes(), bytes, errNotReady)
	case m.usable() == 0:
		return fmt.Errorf("no path to array %s works (of %d): %w", array, len(m.Paths), errNotReady)
	}
	for _, l := range dev.Table {
		if over(l) != m.DevNo {
			return fmt.Errorf("device %s does not lie on array %s: %w", dev.Name, array, errNotReady)
		}
	}
	return w.Mapper.Node(dev.Name)
}

// Device gives the number of a volume's device, as 253:4, and whether anybody has it open.
func (w *Worker) Device(_ context.Context, volume events.VolumeID) (number string, open bool, err error) {
	devices, err := w.Mapper.List()
	if err != nil {
		return "", false, err
	}
	dev, there := Observed{Devices: devices}.device(VolumeUUID(volume))
	if !there {
		return "", false, fmt.Errorf("find the device of volume %s: %w", volume, errNotReady)
	}
	return dev.DevNo, dev.Open > 0, nil
}
