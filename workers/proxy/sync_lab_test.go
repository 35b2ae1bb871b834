//go:build lab

package proxy_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
)

// TestRealResync: on the kernel's md, what the document says of limits, pauses and checks is done, and a planted difference is told.
func TestRealResync(t *testing.T) {
	x, l := newLab(t)
	x.say(x.doc(desired.Active, 1, fresh))
	x.until("in sync", func(r events.ArrayReport) bool { return r.State == events.ArrayActive && r.Needs == "" && r.Sync == "" })
	x.say(x.doc(desired.Active, 1, resync(desired.Resync{LimitKiB: 20480, Hold: desired.HoldPaused})))
	x.until("paused", func(r events.ArrayReport) bool { return r.Sync == md.ActionFrozen })
	l.state["vda"] = "transport-offline"
	x.until("the loss", func(r events.ArrayReport) bool { return r.Degraded == 1 })
	x.write(3, "missed")
	delete(l.state, "vda")
	x.until("the return", func(r events.ArrayReport) bool { return r.Needs == events.SyncRecover })
	x.say(x.doc(desired.Active, 1, resync(desired.Resync{LimitKiB: 20480, Check: "c1"})))
	r := x.until("a check after the recovery", func(r events.ArrayReport) bool { return r.Checked == "c1" })
	if r.Degraded != 0 || r.Mismatches != 0 {
		t.Errorf("report %+v", r)
	}
	f, err := os.OpenFile("/dev/vdb", os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("planted!"), 512), 16<<20+6<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	x.say(x.doc(desired.Active, 1, resync(desired.Resync{LimitKiB: 20480, Check: "c2"})))
	if r := x.until("another check", func(r events.ArrayReport) bool { return r.Checked == "c2" }); r.Mismatches == 0 {
		t.Errorf("what was planted is not told: %+v", r)
	}
	x.say(x.doc(desired.Standby, 1))
	x.state(events.ArrayStandby)
}

// TestRealBroken: both copies of a set are lost, for md too: the owner makes its export unavailable and its front fails.
func TestRealBroken(t *testing.T) {
	x, l := newLab(t)
	x.say(x.doc(desired.Active, 1, fresh))
	x.until("in sync", func(r events.ArrayReport) bool { return r.State == events.ArrayActive && r.Needs == "" && r.Sync == "" })
	woken := make(chan time.Time, 1000)
	x.worker.Wake = func() { woken <- time.Now() }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.worker.Run(ctx, time.Hour) }() // but for its first look it knows only what the kernel tells
	for range 2 {
		<-woken
	}
	l.state["vda"], l.state["vdb"] = "offline", "offline"
	began := time.Now()
	if err := os.WriteFile("/sys/block/"+x.name()+"/md/dev-vda/state", []byte("faulty"), 0); err != nil {
		t.Fatal(err)
	}
	t.Logf("woken %v after a leg failed", (<-woken).Sub(began))
	x.until("broken", func(r events.ArrayReport) bool {
		return r.State == events.ArrayBroken || r.State == events.ArrayWaiting
	})
	x.until("withdrawn", func(events.ArrayReport) bool {
		all, err := md.List("")
		return err == nil && len(all) == 0 && x.w.exports[arrayID].State == proxy.ExportUnavailable
	})
	if got := x.read(0); !strings.Contains(got, "input/output error") {
		t.Errorf("the front reads %q", got)
	}
	cancel()
	<-ended
	clear(l.state)
}

// name gives the kernel's name of the one array.
func (x *lab) name() string {
	x.Helper()
	all, err := md.List("")
	if err != nil || len(all) != 1 {
		x.Fatalf("arrays %+v, %v", all, err)
	}
	return all[0].Name
}
