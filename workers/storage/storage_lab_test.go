//go:build lab

package storage_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/lio"
	"cloudengine/workers/md"
	"cloudengine/workers/modprobe"
	"cloudengine/workers/proxy"
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

// TestRealWipe: a real array with LVM on it; its disks are wiped once nobody holds them.
func TestRealWipe(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []string{"md_mod", "raid10", "dm_mod"} {
		must(modprobe.Load(m))
	}
	r := &rig{links: []storage.Link{{Fabric: fabric, Transport: lio.ISCSI, Address: netip.MustParsePrefix("127.0.0.1/8")}}}
	links := func() []storage.Link { return r.links }
	run := filepath.Join(t.TempDir(), "exports")
	start := func() {
		r.worker = &storage.Worker{Machine: node, Run: run, Target: lio.Kernel("", node, modprobe.Load), Links: links}
	}
	start()
	for i, serial := range []string{"labdisk0", "labdisk1"} { // another test may have left them exported
		r.say(uint64(i+1), serial, desired.Export{Epoch: epoch(1), Want: desired.Absent})
	}
	r.settle(t)
	var k md.Kernel
	name, err := k.Create(t.Context(), md.Spec{Wanted: md.Wanted{UUID: string(array), RaidDisks: 2, Copies: 2, ChunkKiB: 64}, Name: "gone",
		LegKiB: 32 << 10, OffsetKiB: 16 << 10, Devs: []string{"vda", "vdb"}})
	must(err)
	must(proxy.LVM{}.Init(t.Context(), array, "/dev/"+name, 4, 4))
	start() // what is on disks is read when they are not exported any more: here somebody else has written to them
	for i, serial := range []string{"labdisk0", "labdisk1"} {
		r.say(uint64(i+3), serial, desired.Export{Epoch: epoch(1), Want: desired.Wiped})
	}
	if _, err := r.pass(t); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("the disks of an array that runs are wiped: %v", err)
	}
	if x, _ := r.export(t, "labdisk0"); x.State != events.ExportFailed {
		t.Errorf("it reports %+v", x)
	}
	must(k.Stop(t.Context(), name))
	r.settle(t)
	for i, device := range []string{"/dev/vda", "/dev/vdb"} {
		r.wantWipe(t, []string{"labdisk0", "labdisk1"}[i], events.ExportWiped)
		b, err := os.ReadFile(device)
		must(err)
		if rest := bytes.Trim(b[:24<<20], "\x00"); len(rest) > 0 || bytes.Contains(b, []byte("LVM2")) || bytes.Contains(b, []byte("\xfc\x4e\x2b\xa9\x01")) {
			t.Errorf("%d bytes are left on %s", len(rest), device)
		}
	}
	if _, err := md.ReadSuper("/dev/vda"); !errors.Is(err, md.ErrNoSuper) {
		t.Errorf("md finds %v", err)
	}
}
