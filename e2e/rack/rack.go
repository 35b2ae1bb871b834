package rack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Rack is a rack, running or not. Its methods may be called from several goroutines and from
// several processes: Up and Down exclude each other by a lock file in the directory.
type Rack struct {
	cfg Config
}

// New checks a configuration and fills in its defaults. It starts nothing.
func New(cfg Config) (*Rack, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure rack: %w", err)
	}
	return &Rack{cfg: cfg}, nil
}

// Open finds the rack whose state is in dir (default: bin/rack), running or not. The error is
// os.ErrNotExist (errors.Is) if no rack was ever brought up there, or it was brought down.
func Open(dir string) (*Rack, error) {
	if dir == "" {
		dir = filepath.Join("bin", "rack")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "rack.json"))
	if err != nil {
		return nil, fmt.Errorf("open rack: %w", err)
	}
	var cfg Config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, fmt.Errorf("decode %s: %w", filepath.Join(dir, "rack.json"), err)
	}
	cfg.Dir = dir // the directory may have been moved
	return New(cfg)
}

// Config returns the configuration with its defaults filled in.
func (r *Rack) Config() Config { return r.cfg }

// Machines returns the machines, in order.
func (r *Rack) Machines() []Machine {
	out := make([]Machine, r.cfg.Hosts+r.cfg.StorageNodes+r.cfg.Proxies)
	for i := range out {
		out[i] = r.cfg.machine(i + 1)
	}
	return out
}

// Machine returns the machine of that name, or ErrUnknownMachine.
func (r *Rack) Machine(name string) (Machine, error) {
	for _, m := range r.Machines() {
		if m.Name == name {
			return m, nil
		}
	}
	return Machine{}, fmt.Errorf("machine %q: %w", name, ErrUnknownMachine)
}

// OnProgress sets who is told what is being done, for a rack that came from Open.
func (r *Rack) OnProgress(f func(line string)) { r.cfg.Progress = f }

func (r *Rack) say(format string, args ...any) {
	if r.cfg.Progress != nil {
		r.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

// Up makes what is missing: namespace, bridges, taps, management controllers, forwards. Machines
// stay as they are (at first: powered off); power is the business of their controllers. A rack
// that is up with another configuration is refused. What a failed Up made is taken by the next Up
// or removed by Down.
func (r *Rack) Up(ctx context.Context) error {
	if err := Check(); err != nil {
		return err
	}
	if err := os.MkdirAll(r.cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("make rack directory: %w", err)
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.takeOver(); err != nil {
		return err
	}
	if _, err := os.Stat(r.configPath()); errors.Is(err, os.ErrNotExist) {
		// The directory was removed under a running rack: nothing of it can be found by pid file.
		if err := r.removeNetwork(ctx); err != nil {
			return fmt.Errorf("remove what is left of an earlier rack: %w", err)
		}
	}
	if err := r.saveConfig(); err != nil {
		return err
	}
	r.say("rack: network namespace %s", r.cfg.Namespace)
	if err := r.ensureNetwork(); err != nil {
		return fmt.Errorf("set up network of the rack: %w", err)
	}
	for _, m := range r.Machines() {
		r.say("rack: %s (%s), management controller %s", m.Name, m.MAC, m.BMC)
		if err := r.ensureBMC(ctx, m); err != nil {
			return fmt.Errorf("start management controller of %s: %w", m.Name, err)
		}
	}
	for i, f := range r.cfg.Forwards {
		r.say("rack: forward %s to %s", f.Listen, f.Target)
		if err := r.ensureForward(ctx, i, f); err != nil {
			return fmt.Errorf("forward %s: %w", f.Listen, err)
		}
	}
	return nil
}

// Down stops all machines, controllers and forwards, and what Start put into the namespace and
// still runs there, and removes the namespace. Logs stay in the directory.
func (r *Rack) Down(ctx context.Context) error {
	if r.hasNamespace() { // even if somebody removed the directory
		if err := os.MkdirAll(r.cfg.Dir, 0o755); err != nil {
			return fmt.Errorf("make rack directory: %w", err)
		}
	}
	unlock, err := r.lock()
	if errors.Is(err, os.ErrNotExist) {
		return nil // never was up
	}
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.checkOwner(); err != nil {
		return err
	}
	r.say("rack: stop machines and controllers")
	var failed []error
	for i := range r.cfg.Forwards {
		failed = append(failed, r.forwardProcess(i).stop(ctx))
	}
	for _, m := range r.Machines() {
		// The controller first, or somebody could power the machine on again.
		failed = append(failed, m.bmcProcess().stop(ctx), m.serialProcess().stop(ctx), m.qemuProcess().stop(ctx))
	}
	failed = append(failed, r.removeNetwork(ctx))
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("bring rack down: %w", err)
	}
	if err := os.Remove(r.configPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove state of the rack: %w", err)
	}
	return nil
}

// Check tells what this computer lacks to hold a rack: root, programs, /dev/net/tun.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("the rack makes network namespaces and taps: run it as root")
	}
	for prog, pkg := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", "ipmi_sim": "openipmi"} {
		if _, err := exec.LookPath(prog); err != nil {
			return fmt.Errorf("find %s: %w (apt-get install %s ipxe-qemu)", prog, err, pkg)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("find tap device: %w (modprobe tun)", err)
	}
	return nil
}

func (r *Rack) configPath() string { return filepath.Join(r.cfg.Dir, "rack.json") }

func (r *Rack) saveConfig() error {
	now, err := json.MarshalIndent(r.cfg, "", "  ")
	if err != nil {
		return fmt.Errorf("encode rack configuration: %w", err)
	}
	old, err := os.ReadFile(r.configPath())
	if err == nil && string(old) != string(now) {
		return fmt.Errorf("a rack with another configuration is in %s: bring it down first", r.cfg.Dir)
	}
	if err := writeFile(r.configPath(), now, 0o644); err != nil {
		return fmt.Errorf("store rack configuration: %w", err)
	}
	return nil
}

func (r *Rack) lock() (func(), error) { return r.flock(os.O_CREATE|os.O_RDWR, unix.LOCK_EX) }

// tryLock is lock for a rack that is there; it fails with unix.EWOULDBLOCK if somebody holds the lock.
func (r *Rack) tryLock() (func(), error) { return r.flock(os.O_RDWR, unix.LOCK_EX|unix.LOCK_NB) }

func (r *Rack) flock(open, how int) (func(), error) {
	f, err := os.OpenFile(filepath.Join(r.cfg.Dir, "lock"), open|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the rack: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock rack: %w", err)
	}
	return func() { f.Close() }, nil
}

// writeFile replaces a file so that a reader sees the old or the new one.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
