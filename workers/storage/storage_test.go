package storage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/lio"
	"cloudengine/workers/lio/liotest"
	"cloudengine/workers/storage"
)

const (
	node   events.MachineID = "00000000-0000-4000-8000-000000000000"
	p1     events.MachineID = "11111111-0000-4000-8000-000000000001"
	p2     events.MachineID = "22222222-0000-4000-8000-000000000002"
	array  events.ArrayID   = "a0a0a0a0-0000-4000-8000-000000000001"
	array2 events.ArrayID   = "b0b0b0b0-0000-4000-8000-000000000002"
	fabric events.FabricID  = "fab0fab0-0000-4000-8000-000000000001"
)

var macs = map[events.MachineID]string{p1: "52:54:00:01:00:01", p2: "52:54:00:01:00:02"}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// machine makes a root with virtio disks of 1 MiB with serials d0, d1 …
func machine(t testing.TB, n int) string {
	t.Helper()
	root := t.TempDir()
	write(t, root+"/proc/self/mountinfo", "1 1 0:1 / / rw - rootfs rootfs rw\n")
	for i := range n {
		plug(t, root, i, fmt.Sprint("d", i))
	}
	write(t, root+"/sys/class/infiniband/rxe1/ports/1/gids/0", "fe80:0000:0000:0000:5054:00ff:fe01:0000\n")
	return root
}

func plug(t testing.TB, root string, i int, serial string) {
	t.Helper()
	name := fmt.Sprintf("vd%c", 'a'+i)
	dir := filepath.Join(root, "sys/block", name)
	files := map[string]string{"size": "2048", "dev": fmt.Sprintf("254:%d", i), "serial": serial, "removable": "0", "device/vendor": "x"}
	for file, content := range files {
		write(t, filepath.Join(dir, file), content+"\n")
	}
	write(t, filepath.Join(root, "dev", name), strings.Repeat("\x00", 1<<20))
}

func newKernel() *liotest.Kernel {
	k := liotest.New()
	k.DevNo = func(device string) string { return fmt.Sprintf("254:%d", device[len(device)-1]-'a') }
	return k
}

type rig struct {
	kernel *liotest.Kernel
	worker *storage.Worker
	links  []storage.Link
	docs   []desired.Document
}

func newRig(root, run string, transport string) *rig {
	r := &rig{kernel: newKernel()}
	links := func() []storage.Link { return r.links }
	r.worker = &storage.Worker{Machine: node, Root: root, Run: run, Target: &lio.System{Files: r.kernel}, Links: links}
	r.links = []storage.Link{link(transport)}
	return r
}

func link(transport string) storage.Link {
	l := storage.Link{Fabric: fabric, Transport: transport, Address: netip.MustParsePrefix("10.1.0.1/24")}
	if transport == lio.SRP {
		l.RDMA = "rxe1"
	}
	return l
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func (r *rig) observe(t fataler) storage.Observed {
	t.Helper()
	o, err := r.worker.Observe(context.Background())
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	return o
}

// pass plans once and does all steps, plan by plan.
func (r *rig) pass(t fataler) (planned bool, err error) {
	t.Helper()
	plans := r.worker.Plan(r.docs, r.observe(t))
	for _, p := range plans {
		for _, s := range p.Steps {
			if e := r.worker.Apply(context.Background(), s); e != nil {
				err = fmt.Errorf("%s: %w", s, e)
				break
			}
		}
	}
	return len(plans) > 0, err
}

func (r *rig) settle(t fataler) {
	t.Helper()
	for range 8 {
		planned, err := r.pass(t)
		if err != nil {
			t.Fatalf("apply: %v", err)
		}
		if !planned {
			return
		}
	}
	t.Fatalf("the plan does not come to an end: %s", workers.Print(r.worker.Plan(r.docs, r.observe(t))))
}

// say replaces the document of a disk.
func (r *rig) say(n uint64, serial string, e desired.Export, to ...events.MachineID) {
	id := events.DiskIDOf(serial)
	r.docs = slices.DeleteFunc(r.docs, func(d desired.Document) bool { return d.ID == string(id) })
	r.docs = append(r.docs, doc(n, serial, e, to...))
}

func doc(n uint64, serial string, e desired.Export, to ...events.MachineID) desired.Document {
	id := events.DiskIDOf(serial)
	e.Disk, e.Serial, e.Fabric, e.UnitSerial = id, serial, fabric, events.UnitSerial(events.KindDisk, string(id))
	if e.Array == "" {
		e.Array = array
	}
	body, _ := json.Marshal(e)
	var m map[string]any
	_ = json.Unmarshal(body, &m)
	peers := []map[string]string{}
	for _, p := range to {
		peers = append(peers, map[string]string{"machine": string(p), "address": "10.1.0.9", "mac": macs[p]})
	}
	m["to"] = peers
	body, _ = json.Marshal(m)
	g := events.Generation{Term: 1, Number: n}
	return desired.Document{Version: 1, Machine: node, Kind: desired.KindExport, ID: string(id), Generation: g, Body: body}
}

func epoch(n uint64) events.Epoch { return events.Epoch{Term: 1, Counter: n} }

func (r *rig) export(t fataler, serial string) (events.ExportReport, bool) {
	t.Helper()
	rep := r.worker.Report(r.docs, r.observe(t), nil)
	for _, x := range rep.Exports {
		if x.Disk == events.DiskIDOf(serial) {
			return x, true
		}
	}
	return events.ExportReport{}, false
}

func (r *rig) wantExport(t fataler, serial, state string, n uint64, to ...events.MachineID) {
	t.Helper()
	x, ok := r.export(t, serial)
	if !ok || x.State != state || x.Epoch != epoch(n) || !slices.Equal(x.To, to) {
		t.Fatalf("export of %s is %+v (%t), not %s in epoch %d to %v", serial, x, ok, state, n, to)
	}
}

func TestNothingWithoutDocuments(t *testing.T) {
	r := newRig(machine(t, 2), t.TempDir(), lio.ISCSI)
	if plans := r.worker.Plan(nil, r.observe(t)); len(plans) > 0 {
		t.Errorf("plans are %s", workers.Print(plans))
	}
	rep := r.worker.Report(nil, r.observe(t), nil)
	if len(rep.Exports) > 0 || len(rep.Disks) != 2 || rep.Disks[0] != (events.DiskReport{Serial: "d0", Bytes: 1 << 20, Health: events.DiskUnknown}) {
		t.Errorf("report is %+v", rep)
	}
}

func TestExportFollowsItsDocument(t *testing.T) {
	for _, transport := range []string{lio.ISCSI, lio.SRP} {
		t.Run(transport, func(t *testing.T) {
			r := newRig(machine(t, 2), t.TempDir(), transport)
			there := func(n uint64) desired.Export { return desired.Export{Epoch: epoch(n), Want: desired.There} }
			r.say(1, "d0", there(1), p1)
			r.settle(t)
			r.wantExport(t, "d0", events.ExportThere, 1, p1)
			r.say(2, "d0", there(2), p2)
			plans := r.worker.Plan(r.docs, r.observe(t))
			if len(plans) != 1 || !plans[0].Urgent || plans[0].Generation.Number != 2 || len(plans[0].Steps) != 2 ||
				plans[0].Steps[0].Kind != storage.StepRemember || plans[0].Steps[1].Kind != lio.StepRevoke {
				t.Errorf("plans are %s", workers.Print(plans))
			}
			if _, err := r.pass(t); err != nil {
				t.Fatal(err)
			}
			r.wantExport(t, "d0", events.ExportThere, 2)
			r.settle(t)
			r.wantExport(t, "d0", events.ExportThere, 2, p2)

			r.say(3, "d0", there(1), p1, p2) // of a lower epoch: takes nothing away here, and gives nothing
			r.settle(t)
			r.wantExport(t, "d0", events.ExportFailed, 2, p2)
			r.say(4, "d0", desired.Export{Epoch: epoch(9)}) // no opinion
			r.settle(t)
			r.wantExport(t, "d0", events.ExportThere, 2, p2)
			r.docs = nil
			r.settle(t)
			r.wantExport(t, "d0", events.ExportThere, 2, p2)

			r.say(5, "d0", there(3), p2)
			links := r.links
			r.links = nil
			r.settle(t)
			r.wantExport(t, "d0", events.ExportFailed, 3)
			r.links = links
			r.settle(t)
			r.wantExport(t, "d0", events.ExportThere, 3, p2)
			r.say(6, "d0", desired.Export{Epoch: epoch(3), Want: desired.Absent})
			r.settle(t)
			r.wantExport(t, "d0", events.ExportAbsent, 3)
			r.say(7, "d0", desired.Export{Array: array2, Epoch: epoch(1), Want: desired.There}, p1) // another array counts for itself
			r.settle(t)
			r.wantExport(t, "d0", events.ExportThere, 1, p1)
		})
	}
}

func TestDiskThatIsNotThere(t *testing.T) {
	root := machine(t, 1)
	r := newRig(root, t.TempDir(), lio.ISCSI)
	r.say(1, "d0", desired.Export{Epoch: epoch(1), Want: desired.There}, p1)
	r.settle(t)
	if err := os.RemoveAll(root + "/sys/block/vda"); err != nil {
		t.Fatal(err)
	}
	plug(t, root, 0, "other") // the same numbers, another disk
	r.settle(t)
	r.wantExport(t, "d0", events.ExportFailed, 1)
	if a := r.kernel.Access(); len(a) > 0 {
		t.Errorf("access is %v", a)
	}
}

// TestFailedStepIsReported until it was done.
func TestFailedStepIsReported(t *testing.T) {
	r := newRig(machine(t, 1), t.TempDir(), lio.ISCSI)
	r.say(1, "d0", desired.Export{Epoch: epoch(1), Want: desired.There}, p1)
	r.kernel.Each = func(change string, _ bool) error {
		if strings.HasSuffix(change, "/enable") {
			return errors.New("device or resource busy")
		}
		return nil
	}
	if _, err := r.pass(t); err == nil {
		t.Fatal("it did not fail")
	}
	if x, ok := r.export(t, "d0"); !ok || x.State != events.ExportFailed || !strings.Contains(x.Message, "busy") {
		t.Errorf("export is %+v", x)
	}
	r.kernel.Each = nil
	r.settle(t)
	r.wantExport(t, "d0", events.ExportThere, 1, p1)
}

func TestBrokenDocuments(t *testing.T) {
	r := newRig(machine(t, 1), t.TempDir(), lio.ISCSI)
	d := doc(1, "d0", desired.Export{Epoch: epoch(1), Want: desired.There}, p1)
	for name, body := range map[string]string{
		"no JSON":        "{",
		"another disk":   strings.Replace(string(d.Body), string(events.DiskIDOf("d0")), string(events.DiskIDOf("d1")), 1),
		"another serial": strings.Replace(string(d.Body), `"serial":"d0"`, `"serial":"d1"`, 1),
		"unknown want":   strings.Replace(string(d.Body), `"there"`, `"everywhere"`, 1),
	} {
		b := d
		b.Body = []byte(body)
		r.docs = []desired.Document{b}
		for _, p := range r.worker.Plan(r.docs, r.observe(t)) {
			t.Errorf("%s: plan is %v", name, p)
		}
		if x, ok := r.export(t, "d0"); !ok || x.State != events.ExportFailed || x.Message == "" {
			t.Errorf("%s: export is %+v", name, x)
		}
	}
}
