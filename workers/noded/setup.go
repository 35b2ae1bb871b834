package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/boot"
	"cloudengine/workers/host"
	"cloudengine/workers/seed"
	"cloudengine/workers/workertest"
)

// bringUp brings the machine up, or reads what it would have found from a file.
func bringUp(ctx context.Context, o options, log *slog.Logger) (boot.Config, error) {
	if o.config == "" {
		return boot.Up(ctx, log)
	}
	var c boot.Config
	b, err := os.ReadFile(o.config)
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read configuration %s: %w", o.config, err)
	}
	c.BootID = o.bootID
	if c.BootID == "" {
		id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return c, fmt.Errorf("read boot id: %w", err)
		}
		c.BootID = strings.TrimSpace(string(id))
	}
	c.IsXen = true
	return c, nil
}

// leftBehindTime is how long a call of xl may go on after its agent was killed: as long as the agent itself would have let it.
const leftBehindTime = 120 * time.Second

// lockRun waits until no other agent, and no xl that one has left behind, works on this machine. An agent holds the lock for as long as it
// lives and gives it to nobody; each xl inherits the other file, and is known by it. What is left behind and hangs is killed after patience, and
// again after each patience. A device model inherits the file too, but works for its domain and not for an agent.
func lockRun(ctx context.Context, dir string, patience time.Duration, log *slog.Logger) (lock, tools *os.File, err error) {
	lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open lock: %w", err)
	}
	tools, err = os.OpenFile(filepath.Join(dir, "tools"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the mark of tools: %w", err), lock.Close())
	}
	began := time.Now()
	for tries := 0; ; tries++ {
		free, err := takeLock(lock, tools)
		if free && err == nil {
			return lock, tools, nil
		}
		if err != nil {
			return nil, nil, errors.Join(err, tools.Close(), lock.Close())
		}
		if tries%100 == 0 {
			log.Warn("waiting for another agent, or a call of xl that it left behind")
		}
		if time.Since(began) > patience {
			n, err := endLeftBehind(tools.Name())
			log.Warn("what an agent left behind was killed", "processes", n, "err", err)
			began = time.Now()
		}
		select {
		case <-ctx.Done():
			return nil, nil, errors.Join(ctx.Err(), tools.Close(), lock.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// takeLock says whether the lock is ours and nobody that was left behind is at work. Who starts an xl holds the lock, and its child does
// until it has become xl and shows the mark: so there is no moment at which one is not seen.
func takeLock(lock, tools *os.File) (bool, error) {
	err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	left, err := leftBehind(tools.Name())
	if err != nil || len(left) > 0 {
		return false, err
	}
	_, err = lock.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0) // for people
	return true, err
}

// edges are the toolstack, xenstore and the files, real or modelled.
type edges struct {
	tools    host.Toolstack
	store    host.Store
	blobs    host.Blobs
	disks    host.Disks // nil: none
	seeds    host.Seeds
	throttle host.Throttle                                   // nil: none
	watch    func(ctx context.Context, changed func()) error // may be nil

	console func(name string, limit int64) ([]byte, error) // the last bytes that the domain of a name printed
	forget  func(vm events.VMID) error                     // removes what a VM's domains printed
}

func openEdges(o options, c boot.Config, tools *os.File, needed func() map[string]bool) (edges, error) {
	rec, err := openRecord(o.record)
	if err != nil {
		return edges{}, err
	}
	if o.runner == "recording" {
		return modelEdges(o, rec)
	}
	x := &host.Xenstore{Socket: host.XenstoreSocket}
	return edges{
		tools: &host.XL{Path: boot.XenBin + "/xl", Dir: filepath.Join(o.run, "domains"), Lock: tools, Called: func(args []string) { rec(strings.Join(args, " ")) }},
		store: x, watch: x.Watch, console: boot.ReadConsole, seeds: &seed.Dir{Path: seedDir(o.run)},
		forget: func(vm events.VMID) error { return boot.ForgetConsoles(host.DomainName(vm, "")) },
		blobs:  &host.BlobCache{Dir: filepath.Join(o.run, "blobs"), Base: c.HTTP, Limit: blobLimit, Needed: needed},
	}, nil
}

// seedDir is where seeds lie below the agent's directory. Xen's script looks there too.
func seedDir(run string) string { return filepath.Join(run, "seeds") }

// blobLimit bounds the files of templates in dom0's memory, in bytes.
const blobLimit = 256 << 20

// modelEdges makes a model that is kept in a file, so that it outlives the agent as a real host does.
func modelEdges(o options, rec func(string)) (edges, error) {
	m := workertest.Machine{TotalMiB: o.memory, FreeMiB: o.memory, PCPUs: 16}
	if o.state != "" {
		b, err := os.ReadFile(o.state)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return edges{}, fmt.Errorf("read the model's state: %w", err)
		}
	}
	h := workertest.Restore(m)
	h.Called = rec
	if o.state != "" {
		h.Save = func(m workertest.Machine) error { return writeJSON(o.state, m) }
	}
	return edges{
		tools: h, store: h, blobs: workertest.Blobs{}, disks: h, seeds: h.Seeds(), throttle: h.Throttle(),
		console: func(name string, _ int64) ([]byte, error) {
			return []byte("the model's console of " + name + "\n"), nil
		},
		forget: func(events.VMID) error { return nil },
	}, nil
}

// openRecord gives a function that appends {"time","call"} lines; it is safe for concurrent use.
func openRecord(path string) (func(string), error) {
	if path == "" {
		return func(string) {}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open record: %w", err)
	}
	var mu sync.Mutex
	enc := json.NewEncoder(f)
	return func(call string) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(struct {
			Time time.Time `json:"time"`
			Call string    `json:"call"`
		}{time.Now(), call})
	}, nil
}

// writeJSON replaces a file in one step.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return writeFile(path, b)
}

func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := errors.Join(os.WriteFile(tmp, b, 0o600), os.Rename(tmp, path)); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
