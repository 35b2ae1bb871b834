//go:build lab

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/initiator"
	"cloudengine/workers/md"
	"cloudengine/workers/modprobe"
	"cloudengine/workers/proxy"
	"cloudengine/workers/reserve"
)

const configfs = "/sys/kernel/config/target"

// nexuses are two initiators that are admitted to the same units, over the kernel's loopback: the owner, and another.
var nexuses = map[string]string{"owner": "naa.500140500000001", "other": "naa.500140500000002"}

// portal is the target of a storage node as a nexus has it. Disks are spread over the nodes in turn, as in the model.
func portal(nexus string, n int) string {
	return filepath.Join(configfs, "loopback", nexuses[nexus]+fmt.Sprint(n%2), "tpgt_1")
}

// scsi is an Initiator whose storage nodes are units of LIO on the machine's own disks.
type scsi struct {
	*world
	t     *testing.T
	i     *initiator.Initiator
	nexus string
}

func put(t *testing.T, value string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

func folder(t *testing.T, path ...string) string {
	t.Helper()
	d := filepath.Join(path...)
	if err := os.MkdirAll(d, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

func backstore(n int) string {
	return filepath.Join(configfs, "core", fmt.Sprintf("iblock_%d", n), "unit")
}

// give makes a unit of a disk and gives it to both.
func (s scsi) give(n int) {
	s.t.Helper()
	b := folder(s.t, backstore(n))
	put(s.t, "udev_path=/dev/"+real[fmt.Sprintf("sd%02d", n)], b, "control")
	put(s.t, fmt.Sprintf("%d", n+1), b, "wwn/vpd_unit_serial")
	put(s.t, "1", b, "enable")
	for nexus := range nexuses {
		if err := os.Symlink(b, filepath.Join(folder(s.t, portal(nexus, n), "lun", fmt.Sprintf("lun_%d", n)), "unit")); err != nil {
			s.t.Fatal(err)
		}
	}
}

// newSCSI gives all disks of the lab to both.
func newSCSI(t *testing.T, w *world) scsi {
	t.Helper()
	for _, m := range []string{"crc32c_generic", "target_core_mod", "target_core_iblock", "tcm_loop", "sd_mod"} {
		if err := modprobe.Load(m); err != nil {
			t.Fatal(err)
		}
	}
	folder(t, "/var/target/pr")
	for nexus, name := range nexuses {
		for n := range 2 {
			put(t, name+[]string{"a", "b"}[n], folder(t, portal(nexus, n)), "nexus")
		}
	}
	s := scsi{w, t, &initiator.Initiator{}, "owner"}
	for n := range 4 {
		s.give(n)
	}
	return s
}

// dev gives the disk that a unit is to an initiator, or nothing.
func (s scsi) dev(n int) string {
	at, err := os.ReadFile(filepath.Join(portal(s.nexus, n), "address"))
	if err != nil {
		s.t.Fatal(err)
	}
	all, err := filepath.Glob(fmt.Sprintf("/sys/class/scsi_device/%s:%d/device/block/*", strings.TrimSpace(string(at)), n))
	if err != nil || len(all) != 1 {
		return ""
	}
	return filepath.Base(all[0])
}

func (s scsi) LUNs(ctx context.Context) ([]proxy.LUN, error) {
	all, err := s.world.LUNs(ctx)
	var out []proxy.LUN
	for _, l := range all {
		n := slices.IndexFunc(s.disks, func(d *disk) bool { return dev(d.naa) == l.Dev })
		if l.Dev = s.dev(n); l.Dev != "" {
			out = append(out, l)
		}
	}
	return out, err
}

func (s scsi) Reservation(ctx context.Context, dev string) (reserve.Seen, error) {
	return s.i.Reservation(ctx, dev)
}

// preempt is PREEMPT of PERSISTENT RESERVE OUT, without abort.
const preempt reserve.Action = 4

// Reserve does not abort: in the kernel of the image PREEMPT AND ABORT waits for the submission queue of the unit (core_tmr_lun_reset), and what comes
// over the loopback is done in that very queue, so it would wait for itself. SRP and iSCSI do not use it; there it is tested with writes under way.
func (s scsi) Reserve(ctx context.Context, dev string, o reserve.Out) error {
	if o.Action == reserve.PreemptAndAbort {
		o.Action = preempt
	}
	return s.i.Reserve(ctx, dev, o)
}

// unit is a leg as its initiator has it.
type unit struct {
	scsi
	n int
}

func (u unit) Reservation(ctx context.Context) (reserve.Seen, error) {
	return u.i.Reservation(ctx, u.dev(u.n))
}

func (u unit) Reserve(ctx context.Context, o reserve.Out) error {
	return u.scsi.Reserve(ctx, u.dev(u.n), o)
}

// refused wants reads and writes of each leg to be refused.
func (s scsi) refused(what string) {
	s.t.Helper()
	raw := make([]byte, 8192)
	block := raw[(4096-int(uintptr(unsafe.Pointer(&raw[0]))%4096))%4096:][:4096]
	for n := range 4 {
		f, err := os.OpenFile("/dev/"+s.dev(n), os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		_, r := f.ReadAt(block, 40<<20)
		_, w := f.WriteAt(block, 40<<20)
		if !errors.Is(r, unix.EBADE) || !errors.Is(w, unix.EBADE) {
			s.t.Errorf("%s reaches leg %d: read %v, write %v", what, n, r, w)
		}
		f.Close()
	}
}

// takes reserves all legs for an epoch, from another boot.
func (s scsi) takes(epoch uint64) (errs []error) {
	s.t.Helper()
	own, err := reserve.KeyOf(arrayID, events.Epoch{Term: 1, Counter: epoch}, "another boot")
	if err != nil {
		s.t.Fatal(err)
	}
	for n := range 4 {
		errs = append(errs, reserve.Take(s.t.Context(), unit{s, n}, own))
	}
	return errs
}

func (x *lab) supers() (out []uint64) {
	x.Helper()
	for n := range 4 {
		s, err := md.ReadSuper("/dev/" + real[fmt.Sprintf("sd%02d", n)])
		if err != nil {
			x.Fatal(err)
		}
		out = append(out, s.Events)
	}
	return out
}

// TestLockedLegs on units of LIO, with the real md: another initiator is admitted to every leg all the time. It needs a machine of its own, for LIO
// keeps the disks.
//
//	go run ./e2e/lab -disks 8 -limit 8m ./workers/proxy -test.run TestLockedLegs -test.v
func TestLockedLegs(t *testing.T) {
	x, _ := newLab(t)
	s := newSCSI(t, x.w)
	other := s
	other.nexus = "other"
	x.worker = &proxy.Worker{Boot: boot, Initiator: s, Target: labTarget{x.w}, Now: time.Now,
		Name: func(_ string, p desired.Peer) (string, error) { return "i-" + string(p.Machine), nil }}
	x.say(x.doc(desired.Active, 2, fresh, volume(v1ID, desired.There, v1...)))
	x.ready(1)
	x.until("the first resync", func(r events.ArrayReport) bool { return r.Sync == "" })
	x.write(1, "customer")
	other.refused("the second writer")
	for n, err := range other.takes(1) {
		if !errors.Is(err, reserve.ErrNewer) {
			t.Errorf("leg %d under an earlier epoch: %v", n, err)
		}
	}
	x.anew(s, other)
	x.preempted(s, other)
	x.say(x.doc(desired.Standby, 4))
	x.state(events.ArrayStandby)
	for n := range 4 {
		x.until("its keys are gone", func(events.ArrayReport) bool {
			seen, err := unit{s, n}.Reservation(t.Context())
			return err == nil && len(seen.Keys) == 0
		})
	}
}

// clearAll is CLEAR of PERSISTENT RESERVE OUT: no key is left, as when a target begins anew.
const clearAll reserve.Action = 3

// anew: a storage node has forgotten what was reserved, so fast that its sessions live. Its legs leave the array, are reserved, and come back.
func (x *lab) anew(s, other scsi) {
	x.Helper()
	own, err := reserve.KeyOf(arrayID, events.Epoch{Term: 1, Counter: 2}, boot)
	if err != nil {
		x.Fatal(err)
	}
	for _, n := range []int{1, 3} {
		if err := (unit{s, n}).Reserve(x.Context(), reserve.Out{Action: clearAll, Key: own}); err != nil {
			x.Fatal(err)
		}
	}
	x.until("the loss", func(r events.ArrayReport) bool {
		return r.Degraded == 2 && r.Events > 0 && r.State == events.ArrayActive
	})
	x.write(9, "degraded")
	x.until("the return", func(r events.ArrayReport) bool {
		return r.Degraded == 0 && r.Sync == "" && r.Legs[1] == events.LegInSync && r.Message == ""
	})
	other.refused("the second writer, after the return,")
	x.holds(map[int]string{0: "", 1: "customer", 9: "degraded"})
}

// preempted: the next owner takes the legs of an owner that writes; that one notices, writes nothing more, and takes them back under a later epoch.
func (x *lab) preempted(s, other scsi) {
	x.Helper()
	began := time.Now()
	if err := errors.Join(other.takes(3)...); err != nil {
		x.Fatal(err)
	}
	x.Logf("four legs preempted in %v", time.Since(began).Round(time.Millisecond))
	before := x.supers()
	f, err := os.OpenFile(front, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		x.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), extentAt(1)); err == nil {
		x.Error("the former owner writes")
	}
	f.Close()
	r := x.state(events.ArrayBroken)
	x.Logf("after %v: %s", time.Since(began).Round(time.Millisecond), r.Message)
	x.until("md has ended", func(events.ArrayReport) bool {
		all, err := md.List("")
		return err == nil && len(all) == 0 && x.w.exports[arrayID].State == proxy.ExportUnavailable
	})
	if after := x.supers(); !slices.Equal(before, after) {
		x.Errorf("superblocks had event counts %v, and have %v", before, after)
	}
	for range 5 {
		if _, err := x.look(); err != nil {
			x.Error(err)
		}
	}
	s.refused("the former owner")
	x.say(x.doc(desired.Standby, 3))
	x.state(events.ArrayStandby)
	x.say(x.doc(desired.Active, 4, volume(v1ID, desired.There, v1...)))
	if r := x.ready(1); r.Degraded != 0 {
		x.Errorf("report %+v", r)
	}
	x.holds(map[int]string{0: "", 1: "customer", 9: "degraded"})
	other.refused("the owner before")
}
