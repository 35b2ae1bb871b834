package initiator

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
)

// counters sets the counters of all units, as the kernel writes them.
func (x *tree) counters(sent, ended uint64) {
	x.t.Helper()
	units, err := x.i.list("sys/class/scsi_device")
	if err != nil {
		x.t.Fatal(err)
	}
	for _, u := range units {
		x.write("0x"+strconv.FormatUint(sent, 16), "sys/class/scsi_device", u, "device/iorequest_cnt")
		x.write("0x"+strconv.FormatUint(ended, 16), "sys/class/scsi_device", u, "device/iodone_cnt")
	}
}

// TestOnlyATargetThatOwesAnAnswerIsAsked: while commands end, or none is under way, a look asks nobody and opens nothing; one that does not answer
// is asked until it is dead, as before.
func TestOnlyATargetThatOwesAnAnswerIsAsked(t *testing.T) {
	x := newTree(t)
	x.units = []unit{{1, naa1, "0"}, {2, naa2, "0"}}
	var q quiet
	q.into(x)
	if err := x.i.Login(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	asked := 0
	answers := x.i.edges.answers
	x.i.edges.answers = func(ctx context.Context, addr string) error { asked++; return answers(ctx, addr) }
	var w watch
	defer w.flow.close()
	look := func(want int, what string) {
		t.Helper()
		asked = 0
		x.i.askAll(t.Context(), &w)
		w.resets.Wait()
		if asked != want {
			t.Fatalf("%s: %d targets asked, want %d", what, asked, want)
		}
	}
	x.counters(16, 15)
	look(0, "first look: it may have answered just now")
	opened := w.flow.hosts[0]
	x.counters(20, 19)
	look(0, "commands end")
	x.counters(20, 20)
	look(0, "none is under way")
	look(0, "none is under way still")
	if len(w.flow.hosts) != 1 || w.flow.hosts[0] != opened {
		t.Error("the files were opened anew although nothing has come or gone")
	}
	q.fall(true)
	x.counters(23, 20)
	for range silentAsks {
		look(1, "some are under way and none ends")
	}
	if len(q.resets) != 1 {
		t.Errorf("resets %q, want one", q.resets)
	}
	x.counters(23, 23)
	look(0, "they have ended")

	sessions, err := x.i.srpSessions()
	if err != nil || len(sessions) != 1 {
		t.Fatalf("sessions %+v, %v", sessions, err)
	}
	port := filepath.Join("sys/class/srp_remote_ports", "port-"+strconv.Itoa(sessions[0].Host)+":1", "state")
	x.counters(30, 23)
	x.write("fail-fast", port)
	look(0, "the session is known to be down")
	x.write("running", port)
	look(1, "it is back, and answers nothing")

	x.units = append(x.units, unit{3, "60014050000000000000000000000003", "0"})
	if err := x.i.Rescan(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	x.counters(31, 31)
	look(0, "a unit has come")
	if len(w.flow.hosts) != 1 || len(w.flow.hosts[0].units) != 3 {
		t.Errorf("the unit that has come is not followed: %+v", w.flow.hosts)
	}
	if err := x.i.Logout(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	look(0, "there is no session")
	if len(w.flow.hosts) != 0 {
		t.Errorf("a session that has ended is followed: %+v", w.flow.hosts)
	}
}
