//go:build lab

package lio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/lio"
	"cloudengine/workers/modprobe"
)

// These tests give disks of the lab's machine to itself: its kernel is target and initiator. They need two disks and a card:
//
//	go run ./e2e/lab -disks 2 -nets 1 ./workers/lio -test.run TestReal -test.v
const (
	self    events.MachineID = "00000000-0000-4000-8000-00000000000a" // the target
	asOwner                  = m2                                     // the initiator
	limit                    = 60 * time.Second                       // of everything that is waited for
	block                    = 4096
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s: %s", limit, what)
		}
	}
}

func serial(i int) string { return events.UnitSerial(events.KindDisk, fmt.Sprint("lab", i)) }

// wish exports both disks of the machine; given says which of them to the initiator.
func wish(port lio.Port, initiator string, given ...int) lio.Config {
	c := lio.Config{}
	for i, dev := range []string{"/dev/vda", "/dev/vdb"} {
		c.Backstores = append(c.Backstores, lio.Backstore{Name: fmt.Sprint("disk", i), Device: dev, UnitSerial: serial(i),
			Groups: []lio.Group{{Name: "g", ID: 7, State: lio.Active}}})
	}
	for _, i := range given {
		port.Grants = append(port.Grants, lio.Grant{Machine: asOwner, Initiator: initiator, Backstore: fmt.Sprint("disk", i), Group: "g"})
	}
	c.Ports = []lio.Port{port}
	return c
}

func bring(t *testing.T, s *lio.System, want lio.Config) {
	t.Helper()
	ctx := context.Background()
	have, err := s.Observe(ctx)
	must(t, err)
	for _, step := range lio.Plan(want, have) {
		began := time.Now()
		if err := s.Apply(ctx, step); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		t.Logf("%s took %s", step, time.Since(began).Round(time.Millisecond))
	}
	have, err = s.Observe(ctx)
	must(t, err)
	if left := lio.Plan(want, have); len(left) > 0 {
		t.Fatalf("after the plan there is %+v, and left to do: %v", have, left)
	}
}

// device finds what an initiator sees, by its name.
func device(serial string) string {
	dirs, _ := filepath.Glob("/sys/block/sd*/device/wwid")
	for _, d := range dirs {
		b, _ := os.ReadFile(d)
		if strings.TrimSpace(string(b)) == "naa."+events.NAA(serial) {
			return "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(d)))
		}
	}
	return ""
}

func waitDevice(t *testing.T, serial string) string {
	t.Helper()
	until(t, "the initiator sees the disk", func() bool { return device(serial) != "" })
	return device(serial)
}

func buffer(t *testing.T) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	return b
}

// writer writes blocks with rising numbers, past the caches, until it is told to end. After an error it goes on trying.
type writer struct {
	done, failed atomic.Int64 // writes
	end          chan struct{}
	gone         chan struct{}
}

func write(t *testing.T, device string, from uint64) *writer {
	t.Helper()
	w := &writer{end: make(chan struct{}), gone: make(chan struct{})}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	must(t, err)
	b := buffer(t)
	go func() {
		defer close(w.gone)
		defer f.Close()
		for n := from; ; n++ {
			select {
			case <-w.end:
				return
			default:
			}
			binary.LittleEndian.PutUint64(b, n)
			if _, err := f.WriteAt(b, int64(n%256)*block); err != nil {
				w.failed.Add(1)
			} else {
				w.done.Add(1)
			}
		}
	}()
	return w
}

func (w *writer) stop() { close(w.end); <-w.gone }

// content reads the first MiB of a disk past the page cache.
func content(t *testing.T, device string) string {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	must(t, err)
	defer f.Close()
	b, err := unix.Mmap(-1, 0, 256*block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	_, err = f.ReadAt(b, 0)
	must(t, err)
	return string(b)
}

// fence is the test that matters: revoke while the initiator writes; from the return on nothing changes on the disk; the other disk of the
// same session is not disturbed; and once it is given again it is the same disk.
func fence(t *testing.T, s *lio.System, port lio.Port, initiator string) {
	t.Helper()
	first, second := waitDevice(t, serial(0)), waitDevice(t, serial(1))
	w, other := write(t, first, 1), write(t, second, 1)
	defer other.stop()
	until(t, "blocks are written", func() bool { return w.done.Load() > 50 && other.done.Load() > 50 })
	began := time.Now()
	bring(t, s, wish(port, initiator, 1))
	t.Logf("revoked in %s after %d writes", time.Since(began).Round(time.Millisecond), w.done.Load())
	before := content(t, "/dev/vda")
	failures := w.failed.Load()
	until(t, "writes fail", func() bool { return w.failed.Load() > failures+20 })
	if content(t, "/dev/vda") != before {
		t.Error("the disk has changed after the revoke had returned")
	}
	count := other.done.Load()
	until(t, "the other disk is written to", func() bool { return other.done.Load() > count+20 })
	if n := other.failed.Load(); n > 0 {
		t.Errorf("%d writes to the other disk failed", n)
	}
	w.stop()
	bring(t, s, wish(port, initiator, 0, 1))
	until(t, "the disk can be read again under its old number", func() bool {
		f, err := os.OpenFile(first, os.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return false
		}
		defer f.Close()
		_, err = f.ReadAt(buffer(t), 0)
		return err == nil
	})
	again := write(t, first, 1<<32)
	until(t, "it can be written to", func() bool { return again.done.Load() > 20 })
	again.stop()
	if content(t, "/dev/vda") == before {
		t.Error("what was written after it was given again did not reach the disk")
	}
}

// run starts a program and shows what it says.
func run(t *testing.T, name string, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	t.Logf("%s %s: %s%v", name, strings.Join(args, " "), out, err)
	return err
}

func loginISCSI(t *testing.T, address string) {
	t.Helper()
	for _, m := range []string{"crc32c_generic", "iscsi_tcp", "sd_mod"} {
		must(t, modprobe.Load(m))
	}
	must(t, os.MkdirAll("/etc/iscsi", 0o755))
	must(t, os.MkdirAll("/run/lock/iscsi", 0o755))
	must(t, os.WriteFile("/etc/iscsi/initiatorname.iscsi", []byte("InitiatorName="+events.InitiatorIQN(asOwner)+"\n"), 0o600))
	conf := "node.session.timeo.replacement_timeout = 3\nnode.conn[0].timeo.noop_out_interval = 2\nnode.conn[0].timeo.noop_out_timeout = 3\n"
	must(t, os.WriteFile("/etc/iscsi/iscsid.conf", []byte(conf), 0o600))
	must(t, run(t, "/sbin/iscsid"))
	must(t, run(t, "/sbin/iscsiadm", "-m", "node", "-T", events.TargetIQN(self), "-p", address+":3260", "-o", "new"))
	until(t, "login", func() bool {
		return run(t, "/sbin/iscsiadm", "-m", "node", "-T", events.TargetIQN(self), "-p", address+":3260", "--login") == nil
	})
}

func TestRealISCSI(t *testing.T) {
	const address = "127.0.0.1"
	s := lio.Kernel("", self, modprobe.Load)
	port := lio.Port{Transport: lio.ISCSI, Name: events.TargetIQN(self), Addresses: []string{address}}
	initiator, err := lio.Initiator(lio.ISCSI, asOwner, "")
	must(t, err)
	bring(t, s, wish(port, initiator, 0, 1))
	loginISCSI(t, address)
	t.Run("fence", func(t *testing.T) { fence(t, s, port, initiator) })
	t.Run("states of the group", func(t *testing.T) { states(t, s, port, initiator) })
	t.Run("the initiator is dead", func(t *testing.T) { dead(t, s, port, initiator, "lo") })
	t.Run("nothing is left", func(t *testing.T) { nothing(t, s) })
}

// states: a standby LUN answers that it is not ready, and is itself again afterwards.
func states(t *testing.T, s *lio.System, port lio.Port, initiator string) {
	dev := waitDevice(t, serial(0))
	read := func() error {
		f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.ReadAt(buffer(t), 0)
		return err
	}
	for _, state := range []string{lio.Standby, lio.Active, lio.Unavailable} {
		must(t, s.SetState(context.Background(), "disk0", "g", state))
		c, err := s.Observe(context.Background())
		must(t, err)
		if got := c.Backstores[0].Groups; len(got) != 1 || got[0] != (lio.Group{Name: "g", ID: 7, State: state}) {
			t.Fatalf("groups are %+v", got)
		}
		until(t, "state "+state, func() bool { return (read() == nil) == (state == lio.Active) })
	}
	bring(t, s, wish(port, initiator, 0, 1))
	until(t, "it is active", func() bool { return read() == nil })
}

// dead cuts the network off under large writes, and revokes: commands that wait for data of the initiator must not hold it up for long.
func dead(t *testing.T, s *lio.System, port lio.Port, initiator, network string) {
	dev := waitDevice(t, serial(0))
	f, err := os.OpenFile(dev, os.O_RDWR|unix.O_DIRECT, 0)
	must(t, err)
	defer f.Close()
	const size = 512 << 10
	ended := make(chan struct{})
	var started atomic.Int64
	for range 4 {
		b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		must(t, err)
		go func() {
			defer func() { ended <- struct{}{} }()
			for {
				started.Add(1)
				if _, err := f.WriteAt(b, 1<<20); err != nil {
					return
				}
			}
		}()
	}
	until(t, "large writes are under way", func() bool { return started.Load() > 12 })
	link, err := netlink.LinkByName(network)
	must(t, err)
	must(t, netlink.LinkSetDown(link))
	began := time.Now()
	bring(t, s, wish(port, initiator, 1))
	took := time.Since(began)
	t.Logf("revoked from a dead initiator in %s", took.Round(time.Millisecond))
	if took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	must(t, netlink.LinkSetUp(link))
	for range 4 {
		<-ended
	}
}

func nothing(t *testing.T, s *lio.System) {
	bring(t, s, lio.Config{})
	c, err := s.Observe(context.Background())
	must(t, err)
	if len(c.Backstores)+len(c.Ports) > 0 {
		t.Errorf("it is %+v", c)
	}
	for _, dev := range []string{"/dev/vda", "/dev/vdb"} {
		f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0) // nobody holds it any more
		must(t, err)
		must(t, f.Close())
	}
}

const card, rxe, srpAddress = "eth0", "rxe0", "10.9.0.1"

// makeRDMA makes a soft RDMA device on the machine's card.
func makeRDMA(t *testing.T) (mac string) {
	t.Helper()
	for _, m := range []string{"crc32_generic", "rdma_rxe", "rdma_cm", "ib_srp", "sd_mod"} {
		must(t, modprobe.Load(m))
	}
	l, err := netlink.LinkByName(card)
	must(t, err)
	a, err := netlink.ParseAddr(srpAddress + "/24")
	must(t, err)
	must(t, netlink.AddrAdd(l, a))
	must(t, netlink.LinkSetUp(l))
	if err := netlink.RdmaLinkAdd(rxe, "rxe", card); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return l.Attrs().HardwareAddr.String()
}

func TestRealSRP(t *testing.T) {
	mac := makeRDMA(t)
	s := lio.Kernel("", self, modprobe.Load)
	until(t, "the device has a GID", func() bool {
		_, err := lio.PortName("", lio.SRP, self, rxe)
		return err == nil
	})
	name, err := lio.PortName("", lio.SRP, self, rxe)
	must(t, err)
	initiator, err := lio.Initiator(lio.SRP, asOwner, mac)
	must(t, err)
	port := lio.Port{Transport: lio.SRP, Name: name}
	bring(t, s, wish(port, initiator, 0, 1))
	login := func(id string) error {
		guid := events.TargetSRP(self)
		return os.WriteFile("/sys/class/infiniband_srp/srp-"+rxe+"-1/add_target", []byte(fmt.Sprintf(
			"id_ext=%s,ioc_guid=%s,initiator_ext=%s,dest=%s:5555,queue_size=32,max_cmd_per_lun=16,tl_retry_count=2", guid, guid, id, srpAddress)), 0)
	}
	if err := login(events.InitiatorSRP(m3)); err == nil {
		t.Error("an initiator that nothing is given to was let in")
	}
	until(t, "login", func() bool {
		err := login(events.InitiatorSRP(asOwner))
		t.Logf("login: %v", err)
		return err == nil
	})
	t.Run("fence", func(t *testing.T) { fence(t, s, port, initiator) })
	t.Run("states of the group", func(t *testing.T) { states(t, s, port, initiator) })
	t.Run("the initiator is dead", func(t *testing.T) { dead(t, s, port, initiator, card) })
	t.Run("nothing is left", func(t *testing.T) { nothing(t, s) })
}
