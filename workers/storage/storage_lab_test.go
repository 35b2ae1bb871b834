//go:build lab

package storage_test

import (
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/lio"
	"cloudengine/workers/modprobe"
	"cloudengine/workers/storage"
)

// TestReal needs two disks: go run ./e2e/lab -disks 2 ./workers/storage -test.run TestReal -test.v
func TestReal(t *testing.T) {
	run := filepath.Join(t.TempDir(), "exports")
	start := func() *rig { // an agent that starts anew
		r := &rig{links: []storage.Link{{Fabric: fabric, Transport: lio.ISCSI, Address: netip.MustParsePrefix("127.0.0.1/8")}}}
		links := func() []storage.Link { return r.links }
		r.worker = &storage.Worker{Machine: node, Run: run, Target: lio.Kernel("", node, modprobe.Load), Links: links}
		return r
	}
	const size = 64 << 20
	r := start()
	want := []events.DiskReport{
		{Serial: "labdisk0", Bytes: size, Health: events.DiskUnknown}, {Serial: "labdisk1", Bytes: size, Health: events.DiskUnknown},
	}
	if rep := r.worker.Report(nil, r.observe(t), nil); !reflect.DeepEqual(rep.Disks, want) || len(rep.Exports) > 0 {
		t.Fatalf("report is %+v", rep)
	}
	mark(t, "/dev/vdb", strings.ReplaceAll(string(array), "-", ""))
	r = start()
	if rep := r.worker.Report(nil, r.observe(t), nil); rep.Disks[1].Signature != "linux_raid_member" {
		t.Errorf("report is %+v", rep)
	}
	r.say(1, "labdisk0", desired.Export{Epoch: epoch(1), Want: desired.There}, p1)
	r.say(2, "labdisk1", desired.Export{Epoch: epoch(1), Want: desired.There}, p1)
	r.settle(t)
	r.wantExport(t, "labdisk0", events.ExportThere, 1, p1)
	r.wantExport(t, "labdisk1", events.ExportThere, 1, p1)
	docs := r.docs
	r = start()
	r.wantNoOpinion(t)
	r.docs = docs
	r.say(3, "labdisk0", desired.Export{Epoch: epoch(2), Want: desired.There}, p2)
	r.settle(t)
	r.wantExport(t, "labdisk0", events.ExportThere, 2, p2)
	r.wantExport(t, "labdisk1", events.ExportThere, 1, p1)
	r.say(4, "labdisk1", desired.Export{Epoch: epoch(1), Want: desired.Absent})
	r.settle(t)
	r.wantExport(t, "labdisk1", events.ExportAbsent, 1)
	if rep := r.worker.Report(r.docs, r.observe(t), nil); rep.Disks[1].Signature != "" {
		t.Errorf("its own array is foreign: %+v", rep.Disks)
	}
	r.links = nil
	r.settle(t)
	if o := r.observe(t); len(o.Exports.Ports) > 0 {
		t.Errorf("without a link there is %+v", o.Exports)
	}
}

// wantNoOpinion: without documents nothing is done, and what is there is reported under what was remembered.
func (r *rig) wantNoOpinion(t *testing.T) {
	t.Helper()
	if plans := r.worker.Plan(nil, r.observe(t)); len(plans) > 0 {
		t.Errorf("without documents it plans %v", plans)
	}
	r.wantExport(t, "labdisk0", events.ExportThere, 1, p1)
}

// mark writes the beginning of a superblock of md 1.2.
func mark(t *testing.T, device, uuid string) {
	t.Helper()
	raw, err := hex.DecodeString(uuid)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(device, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("\xfc\x4e\x2b\xa9\x01\x00\x00\x00"+"\x00\x00\x00\x00\x00\x00\x00\x00"+string(raw)), 4096); err != nil {
		t.Fatal(err)
	}
}
