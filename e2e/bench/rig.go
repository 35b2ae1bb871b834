package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cloudengine/bootimage"
	"cloudengine/commands/api/client"
	"cloudengine/e2e/rack"
	"cloudengine/events"
)

// Where the rack of the measurements is found, apart from any other rack.
const (
	rigNamespace = "cebench"
	rigBus       = "127.0.0.1:24222"
	rigHTTP      = "127.0.0.1:28080"
	rigGuest     = "bin/guest"
	bootLimit    = 6 * time.Minute // one boot; on a busy computer it takes minutes
)

// rig is a virtual rack with one machine, its control plane, and a first VM that has run once. Suites share it.
type rig struct {
	program, dir string
	images       string // what netboot serves; its link "current" is ours to move
	rack         *rack.Rack
	host         rack.Machine
	machine      string // its id in the log
	c            *client.Client
	w            *watcher
	stop         context.CancelFunc
}

// raise brings the rack with one machine up, unless a suite did before.
func (b *bench) raise(ctx context.Context) (*rig, error) {
	return b.raiseAs(ctx, "rack")
}

// raiseAs brings a rack up, of one host and more machines as more says, and takes down what was up under another name.
func (b *bench) raiseAs(ctx context.Context, name string, more ...string) (*rig, error) {
	dir := filepath.Join(b.dir, name)
	if b.rig != nil && b.rig.dir == dir {
		return b.rig, nil
	}
	if err := b.rig.close(); err != nil {
		return nil, err
	}
	b.rig = nil
	if err := rack.Check(); err != nil {
		return nil, err
	}
	image, _, err := b.image(ctx)
	if err != nil {
		return nil, err
	}
	program, err := b.cloudengine(ctx)
	if err != nil {
		return nil, err
	}
	if n := emulators(); n > 0 {
		b.say("%d other QEMU processes run on this computer: the figures of the rack will suffer", n)
	}
	r := &rig{program: program, dir: dir, images: filepath.Join(b.dir, "images")}
	if err := r.serve(image); err != nil {
		return nil, err
	}
	b.rig = r // from here on there is something to stop
	b.say("raise a rack with one host (namespace %s) %s", rigNamespace, strings.Join(more, " "))
	up := []string{"rack", "up", "--detach", "--hosts", "1", "--namespace", rigNamespace, "--rack-dir", r.dir,
		"--data", r.data(), "--listen", rigBus, "--http", rigHTTP, "--image", r.images, "--guest", rigGuest}
	if err := quietly(ctx, program, append(up, more...)...); err != nil {
		return nil, fmt.Errorf("raise rack: %w", err)
	}
	if r.rack, err = rack.Open(r.dir); err != nil {
		return nil, err
	}
	r.host = r.rack.Machines()[0]
	return r, r.connect(ctx)
}

func (r *rig) data() string { return r.dir + "-data" }

func (r *rig) key() string { return filepath.Join(r.data(), "admin.nk") }

func (r *rig) connect(ctx context.Context) error {
	var err error
	if r.c, err = client.Connect(ctx, "nats://"+rigBus, r.key()); err != nil {
		return err
	}
	following, stop := context.WithCancel(ctx)
	r.stop = stop
	r.w = watch(following, r.c)
	if r.machine, err = r.id(ctx, events.KindMachine, r.host.Name); err != nil {
		return err
	}
	return r.w.hostReady(ctx, r.machine)
}

// id finds an object by its name.
func (r *rig) id(ctx context.Context, kind events.Kind, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	a, err := r.c.Read(ctx, kind, "get", events.ReadRequest{ID: name})
	if err != nil {
		return "", fmt.Errorf("find %s %s: %w", kind, name, err)
	}
	var row struct {
		ID string `json:"id"`
	}
	if len(a.Items) != 1 {
		return "", fmt.Errorf("find %s %s: got %d", kind, name, len(a.Items))
	}
	if err := json.Unmarshal(a.Items[0], &row); err != nil {
		return "", fmt.Errorf("find %s %s: %w", kind, name, err)
	}
	return row.ID, nil
}

// serve makes an image the one that the machine boots next.
func (r *rig) serve(image string) error {
	if err := os.MkdirAll(r.images, 0o755); err != nil {
		return fmt.Errorf("make directory of images: %w", err)
	}
	for _, name := range []string{filepath.Base(image), bootimage.CurrentLink} {
		link := filepath.Join(r.images, name)
		if err := errors.Join(os.Symlink(image, link+".new"), os.Rename(link+".new", link)); err != nil {
			return fmt.Errorf("serve image %s: %w", filepath.Base(image), err)
		}
	}
	return nil
}

// powerOff switches the machine off over IPMI. Its VMs must be stopped.
func (r *rig) powerOff(ctx context.Context) error {
	return through(ctx, r.c, r.w, events.KindMachine, "power", map[string]any{"machine": r.machine, "action": events.PowerOff})
}

// powerOn switches the machine on over IPMI, and gives the moment when its power came, and how long its serial log was before.
func (r *rig) powerOn(ctx context.Context) (at time.Time, before int64, err error) {
	st, err := os.Stat(r.host.SerialLog)
	if err != nil {
		return at, 0, fmt.Errorf("look at serial log: %w", err)
	}
	if _, err := order(ctx, r.c, events.KindMachine, "power", map[string]any{"machine": r.machine, "action": events.PowerOn}); err != nil {
		return at, 0, err
	}
	err = r.serial(ctx, st.Size(), "power", func(text string) bool {
		_, rest, ok := strings.Cut(text, "--- power on ")
		line, _, whole := strings.Cut(rest, "\n")
		if !ok || !whole {
			return false
		}
		at, err = time.Parse("2006-01-02T15:04:05.000Z", line)
		return err == nil
	})
	return at, st.Size(), err
}

// serial polls what the machine's serial port printed since it had printed so many bytes, until ok.
func (r *rig) serial(ctx context.Context, after int64, what string, ok func(text string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	for {
		raw, err := os.ReadFile(r.host.SerialLog)
		if err != nil {
			return fmt.Errorf("read serial log: %w", err)
		}
		text := string(raw[min(after, int64(len(raw))):])
		if ok(text) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s of %s: %w; its serial port ends with %q", what, r.host.Name, ctx.Err(), text[max(0, len(text)-500):])
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// servePIDs are the control plane's process and those that it started (MariaDB).
func (r *rig) servePIDs() ([]int, error) {
	raw, err := os.ReadFile(filepath.Join(r.dir, "serve.pid"))
	if err != nil {
		return nil, fmt.Errorf("find the control plane: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("find the control plane: %w", err)
	}
	pids := []int{pid}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		raw, _ := os.ReadFile(l) // the thread may have ended
		for f := range strings.FieldsSeq(string(raw)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids, nil
}

// close takes the rack down, if it was raised.
func (r *rig) close() error {
	if r == nil {
		return nil
	}
	if r.c != nil {
		r.c.Close()
	}
	if r.stop != nil {
		r.stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return quietly(ctx, r.program, "rack", "down", "--namespace", rigNamespace, "--rack-dir", r.dir, "--data", r.data())
}

// emulators counts the QEMU processes of this computer.
func emulators() (n int) {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0
	}
	for _, name := range names {
		if raw, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(raw), "qemu-system") {
			n++
		}
	}
	return n
}
