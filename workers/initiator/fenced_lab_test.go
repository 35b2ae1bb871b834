//go:build lab

package initiator

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/workers/fabric"
)

// TestRealFencedSRP and the other take a unit away from an initiator that has it open, as fencing does: the session lives, the disk stays in the
// list, and each read and write fails soon. That is by what an owner that hears nothing knows that it is fenced off.
func TestRealFencedSRP(t *testing.T)   { testFenced(t, fabric.SRP) }
func TestRealFencedISCSI(t *testing.T) { testFenced(t, fabric.ISCSI) }

func testFenced(t *testing.T, transport string) {
	w := attach(t)
	x := newTarget(t, transport, w.Links())
	i := &Initiator{Self: self, Links: w.Links, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	defer i.Wait()
	x.enable("1")
	x.admit()
	x.give("vda", 5)
	must(t, took(t, "login", 20*time.Second, func() error { return i.Login(t.Context(), x.target) }))
	l, ok := find(t, i, "vda")
	if !ok {
		t.Fatal("the disk is not there")
	}
	writeAndRead(t, l.Dev)
	f, err := os.OpenFile("/dev/"+l.Dev, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	must(t, err)
	defer f.Close()
	block := aligned(4096)
	_, err = f.ReadAt(block, 1<<20)
	must(t, err)
	x.take("vda", 5)
	for what, do := range map[string]func() (int, error){
		"read":  func() (int, error) { return f.ReadAt(block, 1<<20) },
		"write": func() (int, error) { return f.WriteAt(block, 1<<20) },
	} {
		if err := took(t, what+" of a unit that is closed", 5*time.Second, func() error { _, err := do(); return err }); err == nil {
			t.Errorf("a %s reached it", what)
		}
	}
	if again, ok := find(t, i, "vda"); ok {
		t.Logf("the disk is listed as %q", again.State)
	}
	sessions, err := i.Sessions(t.Context())
	if err != nil || len(sessions) != 1 || !sessions[0].Live {
		t.Errorf("sessions are %+v, %v", sessions, err)
	}
	must(t, i.Logout(t.Context(), x.target))
	x.enable("0")
	x.expel()
}
