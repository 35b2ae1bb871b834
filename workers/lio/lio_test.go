package lio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

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

// serials of devices; the draw may give a backstore another device or serial.
func draw(t *rapid.T, name string) lio.Config {
	var c lio.Config
	for _, b := range []string{"a", "b", "c"} {
		if rapid.IntRange(0, 3).Draw(t, name+" has "+b) == 0 {
			continue
		}
		n := map[string]int{"a": 0, "b": 2, "c": 4}[b] + rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, name+" device of "+b)
		s := lio.Backstore{Name: b, Device: fmt.Sprintf("/dev/vd%d", n), DevNo: fmt.Sprintf("254:%d", n),
			UnitSerial: fmt.Sprintf("%025x", n+rapid.SampledFrom([]int{16, 16, 32}).Draw(t, name+" serial of "+b))}
		if rapid.Bool().Draw(t, name+" groups of "+b) {
			s.Groups = []lio.Group{{Name: "here", ID: rapid.IntRange(1, 2).Draw(t, name+" id in "+b),
				State: rapid.SampledFrom([]string{lio.Active, lio.Standby, lio.Unavailable}).Draw(t, name+" state of "+b)}}
		}
		c.Backstores = append(c.Backstores, s)
	}
	for _, p := range []lio.Port{{Transport: lio.ISCSI, Name: events.TargetIQN(m1)}, {Transport: lio.SRP, Name: gid}} {
		if rapid.IntRange(0, 3).Draw(t, name+" has port "+p.Transport) == 0 {
			continue
		}
		if p.Transport == lio.ISCSI {
			p.Addresses = []string{rapid.SampledFrom([]string{"10.1.0.1", "10.1.0.2"}).Draw(t, name+" address")}
		}
		for _, m := range []events.MachineID{m1, m2, m3} {
			for _, s := range c.Backstores {
				if rapid.Bool().Draw(t, fmt.Sprint(name, p.Transport, m, s.Name)) {
					g := lio.Grant{Machine: m, Initiator: initiator(t, p.Transport, m), Backstore: s.Name}
					if len(s.Groups) > 0 {
						g.Group = "here"
					}
					p.Grants = append(p.Grants, g)
				}
			}
		}
		c.Ports = append(c.Ports, p)
	}
	return c
}

// ready is what is observed once a wanted configuration is there.
func ready(c lio.Config) lio.Config {
	out := lio.Config{}
	for _, b := range c.Backstores {
		b.Ready = true
		out.Backstores = append(out.Backstores, b)
	}
	for _, p := range c.Ports {
		p.Ready = true
		p.Grants = slices.Clone(p.Grants)
		for i := range p.Grants {
			p.Grants[i].Ready = true
		}
		out.Ports = append(out.Ports, p)
	}
	return sorted(out)
}

func sorted(c lio.Config) lio.Config {
	for _, p := range c.Ports {
		slices.SortFunc(p.Grants, func(a, b lio.Grant) int {
			return strings.Compare(a.Initiator+a.Backstore, b.Initiator+b.Backstore)
		})
	}
	return c
}

var errKilled = errors.New("killed")

// apply plans and does the steps until nothing is left to do. Calls from the kill-th on fail (0: none), as if the agent had died there.
func apply(k *liotest.Kernel, want lio.Config, kill int) error {
	ctx := context.Background()
	check := k.Each
	calls := 0
	k.Each = func(change string, done bool) error {
		if calls++; kill > 0 && calls >= kill {
			return errKilled
		}
		if check != nil {
			return check(change, done)
		}
		return nil
	}
	defer func() { k.Each = check }()
	s := system(k)
	for range 8 {
		have, err := s.Observe(ctx)
		if err != nil {
			return err
		}
		steps := lio.Plan(want, have)
		if len(steps) == 0 {
			return nil
		}
		for _, step := range steps {
			if err := s.Apply(ctx, step); err != nil {
				return fmt.Errorf("%s: %w", step, err)
			}
		}
	}
	return errors.New("the plan does not come to an end")
}

// TestAnyStateIsBroughtToAnyOther: with kills in between, and never an access on the way that neither the state before nor the one after has.
func TestAnyStateIsBroughtToAnyOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newKernel()
		var want lio.Config
		for i := range rapid.IntRange(1, 4).Draw(t, "configurations") {
			want = draw(t, fmt.Sprint("configuration ", i))
			allowed := allow(k.Access(), granted(want))
			k.Each = func(change string, _ bool) error {
				for who, what := range k.Access() {
					for _, x := range what {
						if !allowed[who+" "+x] {
							return fmt.Errorf("%s: %s reaches %s", change, who, x)
						}
					}
				}
				return nil
			}
			kill := rapid.IntRange(0, 80).Draw(t, "kill")
			if err := apply(k, want, kill); err != nil && !errors.Is(err, errKilled) {
				t.Fatalf("apply: %v", err)
			}
		}
		if err := apply(k, want, 0); err != nil {
			t.Fatalf("apply: %v", err)
		}
		have, err := system(k).Observe(context.Background())
		if err != nil {
			t.Fatalf("observe: %v", err)
		}
		if got := sorted(have); !reflect.DeepEqual(got, ready(want)) {
			t.Fatalf("it is\n%+v\nnot\n%+v", got, ready(want))
		}
		if got := allow(k.Access()); !reflect.DeepEqual(got, allow(granted(want))) {
			t.Fatalf("access is %v", got)
		}
	})
}

func granted(c lio.Config) map[string][]string {
	out := map[string][]string{}
	for _, p := range c.Ports {
		for _, g := range p.Grants {
			for _, b := range c.Backstores {
				if b.Name == g.Backstore {
					out[g.Initiator] = append(out[g.Initiator], fmt.Sprintf("%s as %s lun_%d", b.Device, b.UnitSerial, lio.LUN(b.UnitSerial)))
				}
			}
		}
	}
	return out
}

func allow(all ...map[string][]string) map[string]bool {
	out := map[string]bool{}
	for _, a := range all {
		for who, what := range a {
			for _, x := range what {
				out[who+" "+x] = true
			}
		}
	}
	return out
}

func one(t *testing.T) lio.Config {
	t.Helper()
	return lio.Config{
		Backstores: []lio.Backstore{{Name: "a", Device: "/dev/vd1", UnitSerial: "0a1", Groups: []lio.Group{{Name: "g", ID: 1, State: lio.Active}}}},
		Ports: []lio.Port{{Transport: lio.ISCSI, Name: events.TargetIQN(m1), Addresses: []string{"10.1.0.1"},
			Grants: []lio.Grant{{Machine: m2, Initiator: initiator(t, lio.ISCSI, m2), Backstore: "a", Group: "g"}}}},
	}
}

// TestRevokeComesFirst: and a group stops serving before all.
func TestRevokeComesFirst(t *testing.T) {
	k := newKernel()
	want := one(t)
	if err := apply(k, want, 0); err != nil {
		t.Fatal(err)
	}
	have, err := system(k).Observe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want.Backstores[0].Groups[0].State = lio.Standby
	want.Ports[0].Grants[0] = lio.Grant{Machine: m3, Initiator: initiator(t, lio.ISCSI, m3), Backstore: "a", Group: "g"}
	var kinds []string
	for _, s := range lio.Plan(want, have) {
		kinds = append(kinds, s.Kind)
	}
	if !slices.Equal(kinds, []string{lio.StepGroup, lio.StepRevoke, lio.StepGrant}) {
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
