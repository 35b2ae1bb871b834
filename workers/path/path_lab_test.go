//go:build lab

package path

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/initiator"
	"cloudengine/workers/lio"
	"cloudengine/workers/modprobe"
)

// These tests let the lab's machine be two proxies of one array and the host that uses it:
//
//	go run ./e2e/lab -disks 1 ./workers/path -test.run TestReal -test.v
const (
	hostID    = events.MachineID("e0000000-0000-4000-8000-000000000001")
	blockSize = 4096
	patience  = 60 * time.Second
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is the machine: two targets on the loopback device, and the worker.
type rig struct {
	*testing.T
	target *lio.System
	w      *Worker
	mu     sync.Mutex
	docs   []desired.Document
}

func newRig(t *testing.T) *rig {
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	for _, m := range []string{"iscsi_tcp", "crc32c_generic", "sd_mod"} {
		must(t, modprobe.Load(m))
	}
	for _, p := range []string{"10.0.0.1/32", "10.0.0.2/32"} {
		a, err := netlink.ParseAddr(p)
		must(t, err)
		must(t, netlink.AddrAdd(lo, a))
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	i := &initiator.Initiator{Self: hostID, Log: log}
	r := &rig{T: t, target: lio.Kernel("", proxy1, modprobe.Load), w: &Worker{Initiator: i, Mapper: Kernel{}, Load: modprobe.Load, Listen: Listen, Log: log}}
	r.export()
	return r
}

// export gives one disk to the host by two targets: active by the first, standby by the second.
func (r *rig) export() {
	b := lio.Backstore{Name: "array", Device: "/dev/vda", UnitSerial: events.UnitSerial(events.KindArray, string(arrayA)),
		Groups: []lio.Group{{Name: "g1", ID: 1, State: lio.Active}, {Name: "g2", ID: 2, State: lio.Standby}}}
	c := lio.Config{Backstores: []lio.Backstore{b}}
	for i, m := range []events.MachineID{proxy1, proxy2} {
		c.Ports = append(c.Ports, lio.Port{Transport: lio.ISCSI, Name: events.TargetIQN(m), Addresses: []string{fmt.Sprint("10.0.0.", i+1)},
			Grants: []lio.Grant{{Machine: hostID, Initiator: events.InitiatorIQN(hostID), Backstore: "array", Group: fmt.Sprint("g", i+1)}}})
	}
	have, err := r.target.Observe(r.Context())
	must(r.T, err)
	for _, s := range lio.Plan(c, have) {
		if err := r.target.Apply(r.Context(), s); err != nil {
			r.Fatalf("%s: %v", s, err)
		}
	}
}

// state sets the ALUA state of a proxy, 1 or 2.
func (r *rig) state(proxy int, state string) {
	r.Helper()
	must(r.T, r.target.SetState(r.Context(), "array", fmt.Sprint("g", proxy), state))
}

// enable lets a target end all its sessions and take none, or take them again.
func (r *rig) enable(m events.MachineID, on string) {
	r.Helper()
	must(r.T, os.WriteFile(filepath.Join("/sys/kernel/config/target/iscsi", events.TargetIQN(m), "tpgt_1/enable"), []byte(on), 0o644))
}

func (r *rig) until(what string, ok func() bool) time.Duration {
	r.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		<-tick.C
		if time.Since(began) > patience {
			status, _ := Kernel{}.Status()
			r.Fatalf("waited %s: %s\n%s", patience, what, status)
		}
	}
	return time.Since(began)
}

func (r *rig) want(docs ...desired.Document) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.docs = docs
}

// settle does what the loop does until nothing is left to be done.
func (r *rig) settle() {
	r.Helper()
	r.until("it settles", func() bool {
		seen, err := r.w.Observe(r.Context())
		must(r.T, err)
		plans := r.w.Plan(r.docs, seen)
		for _, p := range plans {
			for _, s := range p.Steps {
				began := time.Now()
				err := r.w.Apply(r.Context(), s)
				r.Logf("%s: %.2f s, %v", s, time.Since(began).Seconds(), err)
				if err != nil {
					break
				}
			}
		}
		return len(plans) == 0
	})
}

func (r *rig) usable() int {
	devices, err := r.w.Mapper.List()
	must(r.T, err)
	d, _ := Observed{Devices: devices}.device(MapUUID(arrayA))
	return d.usable()
}

// writer writes numbered blocks past the caches and reads each back.
type writer struct {
	done, failed, wrong atomic.Int64
	longest             atomic.Int64 // ms of one write and read
	end, gone           chan struct{}
}

func write(t *testing.T, device string, blocks int64) *writer {
	t.Helper()
	w := &writer{end: make(chan struct{}), gone: make(chan struct{})}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	must(t, err)
	mem, err := unix.Mmap(-1, 0, 2*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	go func() {
		defer close(w.gone)
		defer f.Close()
		out, in := mem[:blockSize], mem[blockSize:]
		for n := int64(1); ; n++ {
			select {
			case <-w.end:
				return
			default:
			}
			began := time.Now()
			binary.LittleEndian.PutUint64(out, uint64(n))
			_, err := f.WriteAt(out, n*7%blocks*blockSize)
			if err == nil {
				_, err = f.ReadAt(in, n*7%blocks*blockSize)
			}
			w.longest.Store(max(w.longest.Load(), time.Since(began).Milliseconds()))
			switch {
			case err != nil:
				w.failed.Add(1)
			case binary.LittleEndian.Uint64(in) != uint64(n):
				w.wrong.Add(1)
			default:
				w.done.Add(1)
			}
		}
	}()
	return w
}

// moves waits until I/O has gone on for a while, and says how long the longest had to wait since the last call.
func (r *rig) moves(w *writer, what string) {
	r.Helper()
	n := w.done.Load()
	r.until(what+": I/O goes on", func() bool { return w.done.Load() > n+20 })
	r.Logf("%s: longest I/O %d ms, %d done", what, w.longest.Swap(0), w.done.Load())
	if w.failed.Load() > 0 || w.wrong.Load() > 0 {
		r.Fatalf("%s: %d errors, %d wrong", what, w.failed.Load(), w.wrong.Load())
	}
}

// waits checks that I/O does not go on and does not fail for so long.
func (r *rig) waits(w *writer, what string, d time.Duration) {
	r.Helper()
	r.until(what+": I/O stops", func() bool { return r.usable() == 0 })
	n := w.done.Load()
	r.until(what, func() bool { // one that was under way may end
		began := time.Now()
		r.until("time goes by", func() bool { return time.Since(began) > d })
		return true
	})
	if got := w.done.Load(); got > n+1 || w.failed.Load() > 0 {
		r.Fatalf("%s: %d done, %d failed", what, got-n, w.failed.Load())
	}
}

func TestRealPaths(t *testing.T) {
	r := newRig(t)
	d := disk(vol1, arrayA, events.Segment{Start: 2, Count: 1}, events.Segment{Start: 7, Count: 2})
	r.want(docsOf(d)...)
	r.settle()
	runEnded := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { runEnded <- r.w.Run(ctx) }()
	defer func() { stop(); <-runEnded }()
	path, err := r.w.Ready(t.Context(), vol1, arrayA, 12*mib)
	must(t, err)
	status, err := Kernel{}.Status()
	must(t, err)
	t.Logf("ready: %s\n%s", path, status)
	if r.usable() != 1 {
		t.Errorf("%d paths are usable", r.usable())
	}
	w := write(t, path, 12*mib/blockSize)
	r.moves(w, "begin")
	t.Run("switch", func(t *testing.T) { r.as(t).ordered(w) })
	t.Run("lost", func(t *testing.T) { r.as(t).lost(w) })
	t.Run("remap", func(t *testing.T) { r.as(t).remap(w, d) })
	t.Run("grow", func(t *testing.T) { r.as(t).grow(w, d) })
	close(w.end)
	<-w.gone
	t.Run("extents", func(t *testing.T) { r.as(t).extents(path) })
	t.Run("end", func(t *testing.T) { r.as(t).over() })
}

func (r *rig) as(t *testing.T) *rig { r.T = t; return r }

// ordered: the owner steps back, the other takes over.
func (r *rig) ordered(w *writer) {
	for range 2 {
		r.state(1, lio.Standby)
		r.state(2, lio.Active)
		r.moves(w, "to the second")
		r.state(2, lio.Unavailable)
		r.state(1, lio.Active)
		r.moves(w, "to the first")
	}
	r.state(2, lio.Standby)
}

// lost: the target of the active path ends its sessions. I/O waits until the other takes over; then that one goes too, and comes back.
func (r *rig) lost(w *writer) {
	r.enable(proxy1, "0")
	r.waits(w, "the active path is lost", 10*time.Second)
	seen, err := r.w.Observe(r.Context())
	must(r.T, err)
	report := r.w.Report(r.docs, seen, nil)
	r.Logf("report %+v", report.Paths)
	if len(report.Paths) != 1 || report.Paths[0].Usable != 0 || !strings.Contains(report.Paths[0].Message, "I/O waits") {
		r.Errorf("report %+v", report.Paths)
	}
	r.state(2, lio.Active)
	r.moves(w, "taken over")
	r.enable(proxy2, "0")
	r.waits(w, "all paths are lost", 20*time.Second)
	r.enable(proxy2, "1")
	r.moves(w, "the second is back")
	r.enable(proxy1, "1")
	r.state(1, lio.Standby)
	r.settle()
}

// remap changes the paths of the map while I/O waits in it.
func (r *rig) remap(w *writer, d desired.Disk) {
	r.state(2, lio.Standby)
	r.waits(w, "no path is active", time.Second)
	p := desired.Path{Array: arrayA, Fabric: fabricID, NAA: naa(arrayA), Want: desired.There}
	p.From = []desired.Peer{{Machine: proxy2, Address: "10.0.0.2"}}
	all := r.docs
	r.want(fabricDoc(), doc(7, desired.KindPath, string(arrayA), p), vmDoc(8, vm1, desired.Running, d))
	r.settle()
	r.waits(w, "one path is taken away", time.Second)
	r.state(2, lio.Active)
	r.moves(w, "active again")
	r.want(all...)
	r.settle()
	r.moves(w, "two paths again")
}

// grow adds extents while I/O goes on.
func (r *rig) grow(w *writer, d desired.Disk) {
	d.Segments = append(d.Segments, events.Segment{Start: 12, Count: 1})
	r.want(docsOf(d)...)
	r.settle()
	r.moves(w, "grown")
	path, err := r.w.Ready(r.Context(), vol1, arrayA, 16*mib)
	must(r.T, err)
	f, err := os.Open(path)
	must(r.T, err)
	defer f.Close()
	if n, err := f.Seek(0, 2); err != nil || n != 16*mib {
		r.Errorf("it has %d bytes, %v", n, err)
	}
}

// extents checks that what is on the disk's device is on the array where the segments say.
func (r *rig) extents(path string) {
	f, err := os.Open(path)
	must(r.T, err)
	defer f.Close()
	array, err := os.Open("/dev/vda")
	must(r.T, err)
	defer array.Close()
	for i, extent := range []int64{2, 7, 8} {
		a, b := make([]byte, 4*mib), make([]byte, 4*mib)
		_, err := f.ReadAt(a, int64(i)*4*mib)
		must(r.T, err)
		_, err = array.ReadAt(b, (1+4*extent)*mib)
		must(r.T, err)
		if string(a) != string(b) || strings.Trim(string(a), "\x00") == "" {
			r.Errorf("extent %d is not where it should be", i)
		}
	}
}

func (r *rig) over() {
	r.want(fabricDoc(), pathDoc(20, arrayA, desired.Absent), vmDoc(21, vm1, desired.Absent))
	r.settle()
	seen, err := r.w.Observe(r.Context())
	must(r.T, err)
	if len(seen.Devices)+len(seen.Sessions)+len(seen.LUNs) > 0 {
		r.Errorf("left: %+v", seen)
	}
	if _, err := os.Lstat(VolumePath(vol1)); !os.IsNotExist(err) {
		r.Errorf("the node is still there: %v", err)
	}
}
