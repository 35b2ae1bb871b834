//go:build lab

package initiator

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/fabric"
)

// took logs how long something took, and fails if it was too long.
func took(t *testing.T, what string, limit time.Duration, do func() error) error {
	t.Helper()
	began := time.Now()
	err := do()
	t.Logf("%s: %.2f s, %v", what, time.Since(began).Seconds(), err)
	if time.Since(began) > limit {
		t.Errorf("%s took longer than %s", what, limit)
	}
	return err
}

func find(t *testing.T, i *Initiator, disk string) (LUN, bool) {
	t.Helper()
	luns, err := i.LUNs(t.Context())
	must(t, err)
	for _, l := range luns {
		if l.NAA == events.NAA(serials[disk]) {
			return l, true
		}
	}
	return LUN{}, false
}

// aligned gives memory that O_DIRECT takes.
func aligned(n int) []byte {
	raw := make([]byte, n+4096)
	skip := 4096 - int(uintptr(unsafe.Pointer(&raw[0]))%4096)
	return raw[skip : skip+n]
}

func writeAndRead(t *testing.T, dev string) {
	t.Helper()
	f, err := os.OpenFile("/dev/"+dev, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	must(t, err)
	defer f.Close()
	out, in := aligned(4096), aligned(4096)
	copy(out, bytes.Repeat([]byte("cloudengine "+dev+time.Now().String()), 40))
	_, err = f.WriteAt(out, 1<<20)
	must(t, err)
	_, err = f.ReadAt(in, 1<<20)
	must(t, err)
	if !bytes.Equal(out, in) {
		t.Error("another block was read than was written")
	}
	disk, err := os.Open("/dev/vda") // not through its page cache's old content: nobody has read it before
	must(t, err)
	defer disk.Close()
	if _, err = disk.ReadAt(in, 1<<20); err != nil || !bytes.Equal(out, in) {
		t.Errorf("the block is not on the target's disk: %v", err)
	}
	must(t, unix.IoctlSetInt(int(disk.Fd()), unix.BLKFLSBUF, 0))
}

func TestRealSRP(t *testing.T)   { testReal(t, fabric.SRP) }
func TestRealISCSI(t *testing.T) { testReal(t, fabric.ISCSI) }

func testReal(t *testing.T, transport string) {
	w := attach(t)
	x := newTarget(t, transport, w.Links())
	i := &Initiator{Self: self, Links: w.Links, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	defer i.Wait()
	login := func() error { return i.Login(t.Context(), x.target) }

	wrong := x.target
	wrong.Address = strings.TrimSuffix(wrong.Address, ".1") + ".99"
	if err := took(t, "login to a dead address", 30*time.Second, func() error { return i.Login(t.Context(), wrong) }); !errors.Is(err, ErrUnreachable) {
		t.Errorf("dead address: %v", err)
	}
	x.enable("1")
	if err := took(t, "login that is not admitted", 30*time.Second, login); !errors.Is(err, ErrRefused) {
		t.Errorf("not admitted: %v", err)
	}
	x.admit()
	x.give("vda", 5)
	must(t, took(t, "login", 20*time.Second, login))
	l, ok := find(t, i, "vda")
	if !ok || l.Number != 5 || l.Bytes == 0 || l.State != "running" || l.Target != x.target {
		luns, err := i.LUNs(t.Context())
		t.Fatalf("LUNs = %+v, %v", luns, err)
	}
	must(t, took(t, "second login", 5*time.Second, login))
	sessions, err := i.Sessions(t.Context())
	if err != nil || len(sessions) != 1 || !sessions[0].Live || sessions[0].Target != x.target {
		t.Errorf("Sessions = %+v, %v", sessions, err)
	}
	writeAndRead(t, l.Dev)
	testProbe(t, i, x, l.Dev)
	testUnits(t, i, x)
	testLost(t, i, x, l)
	if transport == fabric.ISCSI {
		testSilence(t, i, x, l)
		testDaemon(t, i)
	}
	must(t, took(t, "logout", 30*time.Second, func() error { return i.Logout(t.Context(), x.target) }))
	if s, err := i.Sessions(t.Context()); err != nil || len(s) != 0 {
		t.Errorf("after logout: %+v, %v", s, err)
	}
	if _, ok := find(t, i, "vda"); ok {
		t.Error("the disk is still there after logout")
	}
	must(t, took(t, "login after logout", 20*time.Second, login))
	if _, ok := find(t, i, "vda"); !ok {
		t.Error("the disk is not there after the second login")
	}
	x.enable("0")
	must(t, took(t, "logout from a target that is gone", 30*time.Second, func() error { return i.Logout(t.Context(), x.target) }))
	if _, ok := find(t, i, "vda"); ok {
		t.Error("the disk is still there after the last logout")
	}
	x.take("vda", 5)
	x.expel()
}

func testProbe(t *testing.T, i *Initiator, x *plainTarget, dev string) {
	t.Helper()
	must(t, took(t, "probe", 5*time.Second, func() error { return i.Probe(t.Context(), dev) }))
	for state, want := range map[string]error{"2": ErrStandby, "3": ErrUnavailable} {
		x.state("vda", state)
		if err := i.Probe(t.Context(), dev); !errors.Is(err, want) {
			t.Errorf("ALUA state %s: %v, want %v", state, err, want)
		}
	}
	x.state("vda", "0")
	must(t, i.Probe(t.Context(), dev))
}

func testUnits(t *testing.T, i *Initiator, x *plainTarget) {
	t.Helper()
	rescan := func() error { return i.Rescan(t.Context(), x.target) }
	x.give("vdb", 300)
	must(t, took(t, "rescan for a new unit", 15*time.Second, rescan))
	l, ok := find(t, i, "vdb")
	if !ok {
		t.Error("the new unit is not there")
	}
	x.take("vdb", 300)
	if err := i.Probe(t.Context(), l.Dev); !errors.Is(err, ErrNoUnit) {
		t.Errorf("a unit that is gone: %v", err)
	}
	must(t, took(t, "rescan for a gone unit", 15*time.Second, rescan))
	if _, ok := find(t, i, "vdb"); ok {
		t.Error("the unit that is gone has a disk")
	}
	if _, ok := find(t, i, "vda"); !ok {
		t.Error("the other unit has none any more")
	}
}

// testLost lets the target close the session and refuse new ones, and then come back.
func testLost(t *testing.T, i *Initiator, x *plainTarget, l LUN) {
	t.Helper()
	x.enable("0")
	err := took(t, "probe of a lost session", 30*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 29*time.Second)
		defer cancel()
		for {
			if err := i.Probe(ctx, l.Dev); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, ErrTransport) {
		t.Errorf("lost session: %v", err)
	}
	s, err := i.Sessions(t.Context())
	t.Logf("lost: %+v, %v", s, err)
	if err := took(t, "login without a target", 30*time.Second, func() error { return i.Login(t.Context(), x.target) }); !errors.Is(err, ErrDown) {
		t.Errorf("login to a target that refuses: %v", err)
	}
	x.enable("1")
	must(t, took(t, "login when the target is back", 30*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 29*time.Second)
		defer cancel()
		for {
			err := i.Login(ctx, x.target)
			if err == nil || ctx.Err() != nil {
				return err
			}
		}
	}))
	if again, ok := find(t, i, "vda"); !ok || again.Dev != l.Dev {
		t.Errorf("the disk was %s, is %+v", l.Dev, again)
	}
	must(t, i.Probe(t.Context(), l.Dev))
	writeAndRead(t, l.Dev)
}

// testSilence lets all packets be lost, as when a target's machine dies: what goes to an address of the machine itself takes the loop-back
// interface. (rxe has a short cut of its own for that, so SRP is not tested in this way.)
func testSilence(t *testing.T, i *Initiator, x *plainTarget, l LUN) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetDown(lo))
	err = took(t, "probe of a silent target", 20*time.Second, func() error { return i.Probe(t.Context(), l.Dev) })
	if !errors.Is(err, ErrTransport) {
		t.Errorf("silent target: %v", err)
	}
	must(t, took(t, "LUNs and sessions of a silent target", time.Second, func() error {
		_, err := i.LUNs(t.Context())
		return err
	}))
	must(t, netlink.LinkSetUp(lo))
	must(t, took(t, "login when the target speaks again", 30*time.Second, func() error {
		for {
			if err := i.Login(t.Context(), x.target); !errors.Is(err, ErrDown) {
				return err
			}
		}
	}))
	must(t, i.Probe(t.Context(), l.Dev))
}

// testDaemon kills iscsid: sessions live on, and Run starts it again.
func testDaemon(t *testing.T, i *Initiator) {
	t.Helper()
	pid := i.daemon()
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	must(t, took(t, "iscsid again", 20*time.Second, func() error {
		return until(ctx, func() (bool, error) { n := i.daemon(); return n != 0 && n != pid, nil })
	}))
	cancel()
	<-ended
	must(t, took(t, "login after iscsid's death", 20*time.Second, func() error {
		return until(t.Context(), func() (bool, error) {
			sessions, err := i.Sessions(t.Context())
			return len(sessions) == 1 && sessions[0].Live, err
		})
	}))
	if s, err := i.Sessions(t.Context()); err != nil || len(s) != 1 || !s[0].Live {
		t.Errorf("after iscsid's death: %+v, %v", s, err)
	}
}
