package lio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/workers"
	"cloudengine/workers/lio"
	"cloudengine/workers/lio/liotest"
)

const (
	m1 events.MachineID = "11111111-0000-4000-8000-000000000001"
	m2 events.MachineID = "22222222-0000-4000-8000-000000000002"
	m3 events.MachineID = "33333333-0000-4000-8000-000000000003"
)

var macs = map[events.MachineID]string{m1: "52:54:00:01:00:01", m2: "52:54:00:01:00:02", m3: "52:54:00:01:00:03"}

const gid = "0xfe80000000000000505400fffe010001"

func initiator(t interface {
	Helper()
	Fatalf(string, ...any)
}, transport string, m events.MachineID) string {
	t.Helper()
	name, err := lio.Initiator(transport, m, macs[m])
	if err != nil {
		t.Fatalf("name initiator: %v", err)
	}
	return name
}

func TestNames(t *testing.T) {
	if got := initiator(t, lio.SRP, m1); got != "0x"+events.InitiatorSRP(m1)+"505400fffe010001" || len(got) != 34 {
		t.Errorf("SRP initiator is %s", got)
	}
	if _, err := lio.Initiator(lio.SRP, m1, "52:54"); err == nil {
		t.Error("a MAC address of two bytes is taken")
	}
	if _, err := lio.Initiator("nvme", m1, macs[m1]); err == nil {
		t.Error("an unknown transport is taken")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "sys/class/infiniband/rxe1/ports/1/gids")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := lio.PortName(root, lio.SRP, m1, "rxe1"); err == nil {
		t.Error("a device without a GID has a name")
	}
	if err := os.WriteFile(filepath.Join(dir, "0"), []byte("fe80:0000:0000:0000:5054:00ff:fe01:0001\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := lio.PortName(root, lio.SRP, m1, "rxe1"); err != nil || got != gid {
		t.Errorf("port name is %q, %v", got, err)
	}
	if got, err := lio.PortName(root, lio.ISCSI, m1, ""); err != nil || got != events.TargetIQN(m1) {
		t.Errorf("port name is %q, %v", got, err)
	}
}

// TestLUNNumbers: no well-known LUN, no negative 32-bit number, and none twice among many disks.
func TestLUNNumbers(t *testing.T) {
	seen := map[uint64]bool{}
	for i := range 2000 {
		n := lio.LUN(events.UnitSerial(events.KindDisk, fmt.Sprint(i)))
		if n&0xc000 != 0x4000 || n >= 1<<31 || n == 0 || seen[n] {
			t.Fatalf("LUN of disk %d is %#x", i, n)
		}
		seen[n] = true
	}
}

func system(k *liotest.Kernel) *lio.System { return &lio.System{Files: k} }

func newKernel() *liotest.Kernel {
	k := liotest.New()
	k.DevNo = func(device string) string {
		return "254:" + strings.TrimPrefix(device, "/dev/vd")
	}
	return k
}

func one(t *testing.T) lio.Config {
	t.Helper()
	return lio.Config{
		Backstores: []lio.Backstore{{Name: "a", Device: "/dev/vd1", UnitSerial: "0a1", Groups: []lio.Group{{Name: "g", ID: 1, State: lio.Active}}}},
		Ports: []lio.Port{{Transport: lio.ISCSI, Name: events.TargetIQN(m1), Addresses: []string{"10.1.0.1"},
			Grants: []lio.Grant{{Machine: m2, Initiator: initiator(t, lio.ISCSI, m2), Backstore: "a", Group: "g"}}}},
	}
}

// exported is one export, as it was wanted and as it is seen.
func exported(t *testing.T) (want, have lio.Config) {
	t.Helper()
	k := newKernel()
	want = one(t)
	if err := apply(k, want, 0); err != nil {
		t.Fatal(err)
	}
	have, err := system(k).Observe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return want, have
}

// planned gives the kinds of the steps from one state to another.
func planned(want, have lio.Config) (kinds []string) {
	for _, s := range lio.Plan(want, have) {
		kinds = append(kinds, s.Kind)
	}
	return kinds
}

// TestRevokeComesFirst: and a group stops serving before all.
func TestRevokeComesFirst(t *testing.T) {
	want, have := exported(t)
	want.Backstores[0].Groups[0].State = lio.Standby
	want.Ports[0].Grants[0] = lio.Grant{Machine: m3, Initiator: initiator(t, lio.ISCSI, m3), Backstore: "a", Group: "g"}
	if kinds := planned(want, have); !slices.Equal(kinds, []string{lio.StepGroup, lio.StepRevoke, lio.StepGrant}) {
		t.Errorf("steps are %v", kinds)
	}
}

// TestAnotherDeviceUnderTheSameName: its numbers tell.
func TestAnotherDeviceUnderTheSameName(t *testing.T) {
	want, have := exported(t)
	want.Backstores[0].DevNo = "254:9"
	if kinds := planned(want, have); !slices.Equal(kinds, []string{lio.StepRevoke, lio.StepUnback, lio.StepBackstore, lio.StepGroup, lio.StepGrant}) {
		t.Errorf("steps are %v", kinds)
	}
}

// TestTwoSerialsWithOneNumber: the second is not granted, because an initiator would take it for the first.
func TestTwoSerialsWithOneNumber(t *testing.T) {
	want := one(t)
	want.Backstores = append(want.Backstores, lio.Backstore{Name: "b", Device: "/dev/vd2", UnitSerial: want.Backstores[0].UnitSerial})
	want.Ports[0].Grants = append(want.Ports[0].Grants, lio.Grant{Machine: m2, Initiator: initiator(t, lio.ISCSI, m2), Backstore: "b"})
	for _, s := range lio.Plan(want, lio.Config{}) {
		if s.Kind == lio.StepGrant && s.Params[lio.ParamBackstore] == "b" {
			t.Errorf("%s", s)
		}
	}
}

// TestForeignThingsAreLeftOrRefused: other targets are not seen; what somebody has put into ours is an error, never a report.
func TestForeignThingsAreLeftOrRefused(t *testing.T) {
	k := newKernel()
	for _, d := range []string{"core/iblock_0/other", "iscsi/iqn.2003-01.org.other:x", "srpt/0xfe80000000000000000000000000ffff"} {
		if err := k.Mkdir(d); err != nil {
			t.Fatal(err)
		}
	}
	s := system(k)
	if c, err := s.Observe(context.Background()); err != nil || len(c.Backstores)+len(c.Ports) != 0 {
		t.Fatalf("observed %+v, %v", c, err)
	}
	if err := apply(k, one(t), 0); err != nil {
		t.Fatal(err)
	}
	dir := "iscsi/" + events.TargetIQN(m1) + "/tpgt_1"
	for _, d := range []string{dir + "/lun/lun_0", dir + "/acls/iqn.2003-01.org.other:i", dir + "/acls/iqn.2003-01.org.other:i/lun_0"} {
		if err := k.Mkdir(d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Observe(context.Background()); err != nil {
		t.Fatalf("an empty list is an error: %v", err)
	}
	if err := k.Symlink("core/iblock_0/ce-a", dir+"/lun/lun_0/mine"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Observe(context.Background()); err == nil {
		t.Error("a LUN that somebody else has made is no error")
	}
}

func TestApplyRefusesNamesThatLeadElsewhere(t *testing.T) {
	k := newKernel()
	for _, name := range []string{"", "..", "a/b", "a\nb", "a@b"} {
		err := system(k).Apply(context.Background(), workers.Step{Kind: lio.StepUnback, Target: name, Params: map[string]string{lio.ParamBackstore: name}})
		if err == nil {
			t.Errorf("name %q is taken", name)
		}
	}
}

// TestObserveDuringRevoke: what runs out is still listed, not as given, and is not read: its directory is locked.
func TestObserveDuringRevoke(t *testing.T) {
	k := newKernel()
	if err := apply(k, one(t), 0); err != nil {
		t.Fatal(err)
	}
	s := system(k)
	var during lio.Config
	var err error
	k.Each = func(change string, done bool) error {
		if strings.Contains(change, "remove ") && strings.Contains(change, "/lun/") && strings.Contains(change, "/ce-") && !done {
			during, err = s.Observe(context.Background())
		}
		return nil
	}
	have, _ := s.Observe(context.Background())
	want := one(t)
	want.Ports[0].Grants = nil
	step := lio.Plan(want, have)
	if len(step) != 1 || step[0].Kind != lio.StepRevoke {
		t.Fatalf("steps are %v", step)
	}
	if e := s.Apply(context.Background(), step[0]); e != nil || err != nil {
		t.Fatalf("revoke: %v, %v", e, err)
	}
	if len(during.Ports) != 1 || len(during.Ports[0].Grants) != 1 || during.Ports[0].Grants[0].Ready || during.Ports[0].Grants[0].Machine != m2 {
		t.Errorf("during the revoke it is %+v", during)
	}
	after, err := s.Observe(context.Background())
	if err != nil || len(after.Ports[0].Grants) != 0 {
		t.Errorf("after the revoke it is %+v, %v", after, err)
	}
}

// TestDir: a directory as configfs would be, without its rules.
func TestDir(t *testing.T) {
	f := lio.Dir(t.TempDir())
	for _, d := range []string{"core", "core/x"} {
		if err := f.Mkdir(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Mkdir("core"); !errors.Is(err, os.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if err := f.Symlink("core/x", "core/link"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Readlink("core/link"); err != nil || got != "x" {
		t.Errorf("link leads to %q, %v", got, err)
	}
	dirs, links, err := f.List("core")
	if err != nil || !slices.Equal(dirs, []string{"x"}) || !slices.Equal(links, []string{"link"}) {
		t.Errorf("listed %v, %v, %v", dirs, links, err)
	}
	if err := f.Write("core/attribute", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an attribute was made: %v", err)
	}
}
