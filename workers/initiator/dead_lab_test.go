//go:build lab

package initiator

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/workers/fabric"
	"cloudengine/workers/md"
	"cloudengine/workers/modprobe"
	"cloudengine/workers/workertest/wire"
)

// stallLimit bounds how long a write to an array may take when a storage node falls silent. It is wide: the machine is emulated.
const stallLimit = 40 * time.Second

// TestDeadSRP: a storage node falls silent, as one whose power was cut, under an array that is written.
//
//	go run ./e2e/lab -disks 3 -nets 2 -limit 10m ./workers/initiator -test.run TestDeadSRP -test.v
func TestDeadSRP(t *testing.T) {
	for _, m := range []string{"crc32_generic", "rdma_rxe", "rdma_cm", "ib_srp", "sd_mod", "md_mod", "raid10"} {
		must(t, modprobe.Load(m))
	}
	cards := [2]string{"eth0", "eth1"}
	wire.Join(t, cards, [2]string{"10.9.0.1", "10.9.0.2"})
	for _, c := range cards {
		must(t, netlink.RdmaLinkAdd("rxe_"+c, "rxe", c))
	}
	silent, err := netlink.LinkByName("eth0")
	must(t, err)
	own, err := netlink.LinkByName("eth1")
	must(t, err)
	link := fabric.Link{Transport: fabric.SRP, Device: "eth1", MAC: own.Attrs().HardwareAddr.String(), RDMA: "rxe_eth1",
		Address: netip.MustParsePrefix("10.9.0.2/24")}
	makeStores(t)
	x := &plainTarget{t: t, target: Target{Transport: fabric.SRP, Machine: node, Address: "10.9.0.1"}}
	x.portSRP("rxe_eth0", link.MAC)
	x.admit()
	x.give("vda", 1)
	x.enable("1")
	i := &Initiator{Self: self, Links: func() []fabric.Link { return []fabric.Link{link} }, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	must(t, took(t, "login", 20*time.Second, func() error { return i.Login(t.Context(), x.target) }))
	l, ok := find(t, i, "vda")
	if !ok {
		t.Fatal("the unit is not there")
	}
	a := newMirror(t, l.Dev, "vdc")
	a.write(4)
	a.pass("writes before", 200)
	t.Logf("before: longest write %s", time.Duration(a.longest.Load()).Round(time.Millisecond))
	a.mistaken(i)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = i.Run(ctx) })
	a.die(silent)
	if d := time.Duration(a.longest.Load()); d > stallLimit {
		t.Errorf("a write took %s", d)
	}
	a.back(i, x, silent, l)
	a.end()
	cancel()
	group.Wait()
}

// mistaken resets the session of a node that is not dead: no write fails, and no leg is lost.
func (a *mirror) mistaken(i *Initiator) {
	a.Helper()
	sessions, err := i.srpSessions()
	if err != nil || len(sessions) != 1 {
		a.Fatalf("sessions: %+v, %v", sessions, err)
	}
	a.longest.Store(0)
	i.reset(a.Context(), sessions[0])
	a.pass("writes after a mistake", 200)
	if s := a.state(); s.Degraded != 0 {
		a.Errorf("the array has lost a leg: %+v", s)
	}
	a.Logf("reset by mistake: longest write %s", time.Duration(a.longest.Load()).Round(10*time.Millisecond))
}

// die lets the node fall silent, and waits until the array does without it.
func (a *mirror) die(silent netlink.Link) {
	a.Helper()
	a.longest.Store(0)
	must(a.T, netlink.LinkSetDown(silent))
	began := time.Now()
	a.until("md does without the leg", func(s md.Array) bool { return s.Degraded == 1 }, 6*time.Minute)
	a.Logf("degraded after %s", time.Since(began).Round(10*time.Millisecond))
	a.pass("writes after", 200)
	a.Logf("longest write %s", time.Duration(a.longest.Load()).Round(10*time.Millisecond))
}

// mirror is an array of two legs, and what writes to it.
type mirror struct {
	*testing.T
	k       md.Kernel
	name    string
	stop    atomic.Bool
	group   sync.WaitGroup
	done    atomic.Int64
	longest atomic.Int64
}

func newMirror(t *testing.T, devs ...string) *mirror {
	t.Helper()
	a := &mirror{T: t}
	name, err := a.k.Create(t.Context(), md.Spec{Wanted: md.Wanted{UUID: "0196d1a2-0000-7000-8000-0000000000aa", RaidDisks: 2, Copies: 2, ChunkKiB: 64},
		Name: "dead", LegKiB: 32 << 10, OffsetKiB: 16 << 10, Devs: devs})
	must(t, err)
	a.name = name
	a.until("the first resync", func(s md.Array) bool { return s.SyncAction == "idle" }, 2*time.Minute)
	return a
}

func (a *mirror) state() md.Array {
	a.Helper()
	all, err := a.k.Arrays("")
	if err != nil || len(all) != 1 {
		a.Fatalf("arrays: %+v, %v", all, err)
	}
	return all[0]
}

func (a *mirror) until(what string, f func(md.Array) bool, limit time.Duration) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), limit)
	defer cancel()
	if err := until(ctx, func() (bool, error) { return f(a.state()), nil }); err != nil {
		a.Fatalf("%s: not in time: %+v", what, a.state())
	}
}

// write lets n writers write blocks of many sizes, each waiting for its last one.
func (a *mirror) write(n int) {
	a.Helper()
	for range n {
		f, err := os.OpenFile("/dev/"+a.name, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
		must(a.T, err)
		a.group.Go(func() {
			defer f.Close()
			b := aligned(128 << 10)
			for !a.stop.Load() {
				size := 4096 * (1 + rand.IntN(32))
				began := time.Now()
				if _, err := f.WriteAt(b[:size], int64(rand.IntN(7000))*4096); err != nil {
					a.Errorf("write: %v", err)
					return
				}
				a.done.Add(1)
				if d := int64(time.Since(began)); d > a.longest.Load() {
					a.longest.Store(d)
				}
			}
		})
	}
}

// pass waits for n more writes.
func (a *mirror) pass(what string, n int64) {
	a.Helper()
	want := a.done.Load() + n
	a.until(what, func(md.Array) bool { return a.done.Load() >= want }, 2*time.Minute)
}

func (a *mirror) end() {
	a.stop.Store(true)
	a.group.Wait()
	must(a.T, a.k.Stop(a.Context(), a.name))
}

// back lets the node speak again, and takes its leg back.
func (a *mirror) back(i *Initiator, x *plainTarget, silent netlink.Link, l LUN) {
	a.Helper()
	wire.Up(a.T, silent, "10.9.0.1", "10.9.0.2")
	must(a.T, took(a.T, "login when the target speaks again", time.Minute, func() error {
		ctx, cancel := context.WithTimeout(a.Context(), time.Minute)
		defer cancel()
		return until(ctx, func() (bool, error) { return i.Login(ctx, x.target) == nil, nil })
	}))
	now, ok := find(a.T, i, "vda")
	if !ok {
		a.Fatal("the unit is not there again")
	}
	must(a.T, a.k.Remove(a.Context(), a.name, l.Dev))
	must(a.T, a.k.Join(a.Context(), a.name, now.Dev, 0))
	a.until("all copies are there", func(s md.Array) bool { return s.Degraded == 0 }, 2*time.Minute)
}
