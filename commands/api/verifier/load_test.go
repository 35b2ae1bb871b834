package verifier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cloudengine/commands"
	"cloudengine/commands/api/verifier"
	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections/verify"
)

// TestNoFalseAlarmsWhileVMsStartAndStop: everything moves, and nothing is found but what is told to be settling; once it rests, nothing.
func TestNoFalseAlarmsWhileVMsStartAndStop(t *testing.T) {
	r := newRig(t)
	r.furnish("host1", "host2")
	for _, h := range r.hosts {
		h.tools.Called = func(string) { time.Sleep(10 * time.Millisecond) } // the toolstack is slow
	}
	const vms = 10
	for i := range vms {
		r.vm(fmt.Sprint("vm", i), []string{"host1", "host2"}[i%2], i < 2)
	}
	cfg := r.config()
	cfg.Pause, cfg.Behind, cfg.AskTime = 100*time.Millisecond, 20*time.Second, 20*time.Second // a busy machine is no finding
	r.verifier = verifier.New(cfg)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var churn sync.WaitGroup
	for i := 2; i < vms; i++ {
		churn.Go(func() { r.churn(ctx, fmt.Sprint("vm", i)) })
	}
	runs, settling := 0, 0
	few := func() bool { return runs < 3 || r.plane.Dispatch.Applied() < 300 }
	for began := time.Now(); time.Since(began) < 6*time.Second || few() && time.Since(began) < 90*time.Second; {
		a := r.verify()
		runs++
		for _, f := range a.Findings {
			if f.Severity != verify.Settling {
				t.Errorf("a false alarm in run %d:%s", runs, describe(a))
				break
			}
			settling++
		}
		if !a.Clean {
			t.Errorf("run %d is not clean", runs)
		}
		if a.Sections[1].Checked < vms || a.Sections[3].Checked != 2 {
			t.Fatalf("too little was compared: %+v", a.Sections)
		}
	}
	r.foundMeanwhile(t)
	stop()
	churn.Wait()
	t.Logf("%d runs within %d decisions, %d differences were told to be settling", runs, r.plane.Dispatch.Applied(), settling)
	if few() {
		t.Fatal("too little happened")
	}
	r.clean()
}

// foundMeanwhile: what is wrong with what rests is found while all else moves.
func (r *rig) foundMeanwhile(t *testing.T) {
	t.Helper()
	for _, f := range []fault{
		{"", verify.Rows, "row_changed", verify.Wrong, inSQL("UPDATE accounts SET name = 'other'", "UPDATE accounts SET name = 'demo'")},
		{"", verify.Desired, "document_changed", verify.Wrong, r.rewrite("vm0", "host1", func(d *document.Document) { d.Body = []byte("{}") })},
	} {
		mend := f.plant(r)
		f.judge(t, r.verify())
		mend()
	}
}

// churn starts, pauses, reboots and stops a VM, whatever the answers are.
func (r *rig) churn(ctx context.Context, name string) {
	vm := events.VMID(r.ids[name])
	for ctx.Err() == nil {
		for _, verb := range []string{"start", "pause", "resume", "reboot", "stop"} {
			var args any = commands.VMRef{VM: vm}
			if verb == "start" {
				args = commands.StartVM{VM: vm}
			}
			r.as("admin", "vm."+verb, args)
			select {
			case <-ctx.Done():
				return
			case <-time.After(rand.N(150 * time.Millisecond)): // the random moment
			}
		}
	}
}
