package seed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/host"
)

const (
	suffix  = ".iso"
	halfway = ".tmp"
)

// Dir keeps the seeds of a machine. It is safe for concurrent use; one agent alone uses it.
type Dir struct {
	Path  string
	Loops Loops // nil: the kernel's

	mu sync.Mutex
}

var _ host.Seeds = (*Dir)(nil)

// Loops are the loop devices of a machine.
type Loops interface {
	// List gives those that have a file.
	List() ([]Loop, error)
	// Attach makes a read-only device of a file.
	Attach(path string) error
	// Detach takes a device from its file. One that is open is taken from it at its last close. It is no error if it has none.
	Detach(number int) error
}

// Loop is a loop device that has a file.
type Loop struct {
	Number       int // of /dev/loop<number>
	Major, Minor uint32
	File         string // as the kernel names it
	Deleted      bool   // the file is not at that path any more
	ReadOnly     bool
}

// Path is where the device lies.
func (l Loop) Path() string { return "/dev/loop" + strconv.Itoa(l.Number) }

// stands says whether the device is that of a seed that is all there.
func (l Loop) stands() bool { return !l.Deleted && l.ReadOnly }

func (l Loop) device() string { return fmt.Sprintf("%d:%d", l.Major, l.Minor) }

func (d *Dir) loops() Loops {
	if d.Loops != nil {
		return d.Loops
	}
	return kernel{}
}

func (d *Dir) file(name string) string { return filepath.Join(d.Path, name+suffix) }

// nameOf gives the seed that a path is of, also of a file that was written by half.
func (d *Dir) nameOf(path string) (string, bool) {
	name, ok := strings.CutSuffix(strings.TrimSuffix(path, halfway), suffix)
	if !ok || filepath.Dir(path) != filepath.Clean(d.Path) {
		return "", false
	}
	name = filepath.Base(name)
	_, ok = host.SeedVM(name)
	return name, ok
}

// Have lists the seeds.
func (d *Dir) Have(context.Context) ([]host.SeedDisk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	files, err := os.ReadDir(d.Path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list seeds: %w", err)
	}
	found := map[string]string{} // number of the device, by name
	for _, f := range files {
		if name, ok := d.nameOf(filepath.Join(d.Path, f.Name())); ok {
			found[name] = ""
		}
	}
	all, err := d.loops().List()
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		name, ok := d.nameOf(l.File)
		if !ok {
			continue
		}
		if l.stands() {
			found[name] = l.device()
		} else if _, known := found[name]; !known {
			found[name] = ""
		}
	}
	out := make([]host.SeedDisk, 0, len(found))
	for name, device := range found {
		out = append(out, host.SeedDisk{Name: name, Device: device})
	}
	slices.SortFunc(out, func(a, b host.SeedDisk) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

var errName = errors.New("not the name of a seed")

// Make makes a seed stand: its file is complete before it has its name, and has its name before it has a device.
func (d *Dir) Make(_ context.Context, vm events.VMID, s desired.Seed) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := host.SeedName(vm, s)
	if of, ok := host.SeedVM(name); !ok || of != vm {
		return "", fmt.Errorf("make seed %q: %w", name, errName)
	}
	path := d.file(name)
	if _, err := find(d.loops(), path); err == nil {
		return path, nil
	} else if !errors.Is(err, errNoLoop) {
		return "", err
	}
	if err := d.write(path, vm, s); err != nil {
		return "", err
	}
	return path, d.loops().Attach(path)
}

func (d *Dir) write(path string, vm events.VMID, s desired.Seed) error {
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return fmt.Errorf("make directory of seeds: %w", err)
	}
	f, err := os.OpenFile(path+halfway, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	if err := errors.Join(image(f, vm, s), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+halfway, path); err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	return nil
}

// Remove takes a seed away: the device first, so that a file without one is all that can be left.
func (d *Dir) Remove(_ context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := host.SeedVM(name); !ok {
		return fmt.Errorf("remove seed %q: %w", name, errName)
	}
	all, err := d.loops().List()
	if err != nil {
		return err
	}
	for _, l := range all {
		if of, ok := d.nameOf(l.File); ok && of == name {
			if err := d.loops().Detach(l.Number); err != nil {
				return err
			}
		}
	}
	for _, path := range []string{d.file(name) + halfway, d.file(name)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove seed: %w", err)
		}
	}
	return nil
}

// Is says whether a path is one that Make gives.
func (d *Dir) Is(path string) bool {
	name, ok := d.nameOf(path)
	return ok && path == d.file(name)
}

// Device finds the device of the seed at a path, for the domain of a VM. Another VM's is refused.
func (d *Dir) Device(path string, vm events.VMID) (Loop, error) {
	name, ok := d.nameOf(path)
	if !ok {
		return Loop{}, fmt.Errorf("find seed at %s: %w", path, errName)
	}
	if of, _ := host.SeedVM(name); of != vm {
		return Loop{}, fmt.Errorf("find seed %s for VM %s: %w", name, vm, errOther)
	}
	return find(d.loops(), path)
}

var (
	errOther  = errors.New("it is another VM's")
	errNoLoop = errors.New("it has no device")
)

func find(loops Loops, path string) (Loop, error) {
	all, err := loops.List()
	if err != nil {
		return Loop{}, err
	}
	for _, l := range all {
		if l.File == path && l.stands() {
			return l, nil
		}
	}
	return Loop{}, fmt.Errorf("find the device of %s: %w", path, errNoLoop)
}
