//go:build lab

package initiator

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/fabric"
	"cloudengine/workers/reserve"
)

// TestRealReservedSRP and the other let two initiators reach one disk of a target, one over each transport, and both are admitted: what keeps one
// of them away is the reservation alone.
func TestRealReservedSRP(t *testing.T)   { testReserved(t, fabric.SRP, fabric.ISCSI) }
func TestRealReservedISCSI(t *testing.T) { testReserved(t, fabric.ISCSI, fabric.SRP) }

// reached is a disk over one session.
type reached struct {
	t    *testing.T
	i    *Initiator
	port *plainTarget
	dev  string
	f    *os.File
}

func (n *reached) unit() at { return at{n.i, n.dev} }

// io reads and writes a block, and wants both to be done, or both to be refused.
func (n *reached) io(what string, may bool) {
	n.t.Helper()
	block := aligned(4096)
	for _, x := range []struct {
		name string
		do   func([]byte, int64) (int, error)
	}{{"read", n.f.ReadAt}, {"write", n.f.WriteAt}} {
		err := took(n.t, what+": "+x.name, 10*time.Second, func() error { _, err := x.do(block, 1<<20); return err })
		if may && err != nil || !may && !errors.Is(err, unix.EBADE) {
			n.t.Errorf("%s: %s: %v", what, x.name, err)
		}
	}
}

// busy writes until that fails; it returns when so many writes are done.
func (n *reached) busy(first int) chan error {
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		block := aligned(64 << 10)
		for done := 0; ; done++ {
			if done == first {
				close(begun)
			}
			if _, err := n.f.WriteAt(block, 2<<20+int64(done%16)<<16); err != nil {
				if done < first {
					close(begun)
				}
				n.t.Logf("%d writes", done)
				ended <- err
				return
			}
		}
	}()
	<-begun
	return ended
}

func (n *reached) open() {
	n.t.Helper()
	var err error
	n.f, err = os.OpenFile("/dev/"+n.dev, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	must(n.t, err)
}

func keyAt(t *testing.T, counter uint64, boot string) reserve.Key {
	t.Helper()
	k, err := reserve.KeyOf("00112233-4455-6677-8899-aabbccddeeff", events.Epoch{Term: 1, Counter: counter}, boot)
	must(t, err)
	return k
}

func testReserved(t *testing.T, first, second string) {
	w := attach(t)
	i := &Initiator{Self: self, Links: w.Links, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	defer i.Wait()
	var both [2]*reached
	for n, transport := range []string{first, second} {
		x := newTarget(t, transport, w.Links())
		x.enable("1")
		x.admit()
		x.give("vda", 5)
		must(t, took(t, "login over "+transport, 20*time.Second, func() error { return i.Login(t.Context(), x.target) }))
		both[n] = &reached{t: t, i: i, port: x}
		both[n].find()
		both[n].open()
	}
	owner, intruder := both[0], both[1]
	low, own, high := keyAt(t, 1, "p1"), keyAt(t, 2, "p2"), keyAt(t, 3, "p1")

	intruder.io("before", true)
	must(t, took(t, "take", 5*time.Second, func() error { return reserve.Take(t.Context(), owner.unit(), own) }))
	owner.io("the owner", true)
	intruder.io("the intruder", false)
	must(t, took(t, "probe of the intruder", 5*time.Second, func() error { return i.Probe(t.Context(), intruder.dev) }))
	if err := took(t, "take under an earlier epoch", 5*time.Second, func() error { return reserve.Take(t.Context(), intruder.unit(), low) }); !errors.Is(err, reserve.ErrNewer) {
		t.Errorf("an earlier owner: %v", err)
	}
	owner.io("the owner still", true)

	busy := owner.busy(200)
	must(t, took(t, "preempt", 5*time.Second, func() error { return reserve.Take(t.Context(), intruder.unit(), high) }))
	if err := took(t, "end of what the owner was writing", 10*time.Second, func() error { return <-busy }); !errors.Is(err, unix.EBADE) {
		t.Errorf("the owner, while it writes: %v", err)
	}
	intruder.io("the next owner", true)
	owner.io("the former one", false)
	if seen, err := i.Reservation(t.Context(), owner.dev); err != nil || !seen.Held(high) || !seen.Alone(high) {
		t.Errorf("after the preemption: %+v, %v", seen, err)
	}
	must(t, reserve.Drop(t.Context(), owner.unit(), own))
	must(t, took(t, "drop", 5*time.Second, func() error { return reserve.Drop(t.Context(), intruder.unit(), high) }))
	if seen, err := i.Reservation(t.Context(), owner.dev); err != nil || seen.Holder != 0 || len(seen.Keys) != 0 {
		t.Errorf("after the drop: %+v, %v", seen, err)
	}
	must(t, reserve.Take(t.Context(), owner.unit(), own))
	owner.restarted(intruder)
	owner.io("the owner after a restart", true)
	intruder.io("the intruder after a restart", false)
	owner.port.take("vda", 5) // off the access list
	intruder.io("the intruder when the owner is admitted no more", true)
	if seen, err := i.Reservation(t.Context(), intruder.dev); err != nil || len(seen.Keys) != 0 {
		t.Errorf("the owner is admitted no more: %+v, %v", seen, err)
	}
	intruder.port.take("vda", 5)
	for _, n := range both {
		must(t, n.f.Close())
		must(t, i.Logout(t.Context(), n.port.target))
		n.port.expel()
		n.port.enable("0")
	}
}

// find looks for the disk over this session.
func (n *reached) find() {
	n.t.Helper()
	luns, err := n.i.LUNs(n.t.Context())
	must(n.t, err)
	for _, l := range luns {
		if l.NAA == events.NAA(serials["vda"]) && l.Target == n.port.target {
			n.dev = l.Dev
			return
		}
	}
	n.t.Fatalf("the disk is not there: %+v", luns)
}

// restarted makes the target's unit anew, as a boot of the storage node does; what was reserved is forgotten, and is reserved again.
func (n *reached) restarted(intruder *reached) {
	n.t.Helper()
	for _, x := range []*reached{n, intruder} {
		x.port.take("vda", 5)
	}
	store := filepath.Join(configfs, "core/iblock_0/vda")
	must(n.t, os.Remove(store))
	makeStores(n.t)
	for _, x := range []*reached{n, intruder} {
		must(n.t, x.f.Close())
		x.port.give("vda", 5)
		must(n.t, x.i.Rescan(n.t.Context(), x.port.target))
		x.find()
		x.open()
	}
	seen, err := n.i.Reservation(n.t.Context(), n.dev)
	if err != nil || seen.Holder != 0 || len(seen.Keys) != 0 {
		n.t.Errorf("after a restart: %+v, %v", seen, err)
	}
	intruder.io("the intruder, before it is taken again", true)
	must(n.t, took(n.t, "take again", 5*time.Second, func() error { return reserve.Take(n.t.Context(), n.unit(), keyAt(n.t, 2, "p2")) }))
}
