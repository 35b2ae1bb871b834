package workertest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"cloudengine/events"
	"cloudengine/workers/host"
)

// T is what the suite needs of a test. Fatalf must not return.
type T interface {
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Guests says what the suite's domains boot: the test guest, which obeys ce.after=<seconds>:<poweroff|reboot|crash>.
type Guests struct {
	Kernel, Ramdisk string
	BzImage         string // its kernel as HVM domains boot it; empty: the suite makes no HVM domain
	Disk            string // path of a block device that the hotplug script takes; empty: the suite's domains have no disk
}

// patience bounds each wait of the suite; an emulated machine is slow.
const patience = 120 * time.Second

type suite struct {
	T
	ctx    context.Context
	tools  host.Toolstack
	store  host.Store
	guests Guests
}

// Suite is what every toolstack and store must do, the real and the modelled. It leaves nothing behind when it passes.
func Suite(ctx context.Context, t T, tools host.Toolstack, store host.Store, g Guests) {
	s := &suite{T: t, ctx: ctx, tools: tools, store: store, guests: g}
	s.nodes()
	info, err := tools.Info(ctx)
	s.must(err, "info")
	t.Logf("xen %s, %d cpus, %d of %d MiB free, %v, scheduler %s", info.Version, info.PCPUs, info.FreeMiB, info.TotalMiB, info.VirtCaps, info.Scheduler)
	if info.PCPUs < 1 || info.FreeMiB < 1 || len(info.Types()) == 0 {
		t.Fatalf("info is not plausible: %+v", info)
	}
	for i, kind := range info.Types() {
		if kind == events.TypeHVM && g.BzImage == "" {
			continue
		}
		s.life(kind, "5e1f7e57-0000-4000-8000-00000000000"+strconv.Itoa(i))
	}
	for i, word := range []string{"poweroff", "reboot", "crash"} {
		s.ending(word, "5e1f7e57-0000-4000-8000-00000000001"+strconv.Itoa(i))
	}
}

func (s *suite) must(err error, what string) {
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// nodes: what xenstore must do.
func (s *suite) nodes() {
	dir := host.StampRoot + "/suite"
	s.must(s.store.Remove(s.ctx, dir), "remove what is not there")
	if _, err := s.store.Read(s.ctx, dir+"/a"); !errors.Is(err, host.ErrNoNode) {
		s.Fatalf("read of a missing node gives %v, want ErrNoNode", err)
	}
	names, err := s.store.Children(s.ctx, dir)
	if err != nil || len(names) != 0 {
		s.Fatalf("children of a missing node: %v, %v", names, err)
	}
	for _, n := range []string{"b", "a"} {
		s.must(s.store.Write(s.ctx, dir+"/"+n, "value "+n), "write")
	}
	s.must(s.store.Write(s.ctx, dir+"/a", "again"), "write")
	if v, err := s.store.Read(s.ctx, dir+"/a"); err != nil || v != "again" {
		s.Fatalf("read back %q, %v", v, err)
	}
	if names, err = s.store.Children(s.ctx, dir); err != nil || !slices.Equal(names, []string{"a", "b"}) {
		s.Fatalf("children are %q, %v", names, err)
	}
	s.must(s.store.Remove(s.ctx, dir), "remove")
	if _, err := s.store.Read(s.ctx, dir+"/a"); !errors.Is(err, host.ErrNoNode) {
		s.Fatalf("read of a removed node gives %v, want ErrNoNode", err)
	}
}

func (s *suite) config(kind, uuid, extra string) host.Config {
	c := host.Config{
		Name: "ce-suite-" + uuid[24:], UUID: uuid, Type: kind, VCPUs: 2, MemoryMiB: 128, Weight: 3, TSCMode: "native",
		Kernel: s.guests.Kernel, Ramdisk: s.guests.Ramdisk, Cmdline: "console=hvc0 quiet ce.name=suite " + extra,
	}
	if s.guests.Disk != "" {
		c.Disks = []host.Disk{{Slot: events.SlotPrimary, Path: s.guests.Disk}}
	}
	if kind == events.TypeHVM {
		c.Kernel, c.Cmdline = s.guests.BzImage, "console=ttyS0 quiet pci=noearly iommu=noaperture ce.name=suite "+extra
	}
	return c
}

// find gives the domain of a UUID and how many there are.
func (s *suite) find(uuid string) (host.Domain, int) {
	all, err := s.tools.List(s.ctx)
	s.must(err, "list")
	var found host.Domain
	n := 0
	for _, d := range all {
		if d.UUID == uuid {
			found = d
			n++
		}
	}
	return found, n
}

// until waits for a state.
func (s *suite) until(uuid, state, reason string) host.Domain {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		d, n := s.find(uuid)
		if n == 1 && d.State == state && d.ShutdownReason == reason {
			return d
		}
		select {
		case <-s.ctx.Done():
			s.Fatalf("wait for %s: %v", state, s.ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	d, n := s.find(uuid)
	s.Fatalf("domain %s is not %s %s after %s: %d of it, %+v", uuid, state, reason, patience, n, d)
	return d
}

// create makes a domain and checks that it is what was asked for, and has not run.
func (s *suite) create(c host.Config) host.Domain {
	before, err := s.tools.Info(s.ctx)
	s.must(err, "info")
	began := time.Now()
	s.must(s.tools.Create(s.ctx, c), "create "+c.Type)
	took := time.Since(began)
	d, n := s.find(c.UUID)
	if n != 1 || d.State != events.DomainPaused || d.Ran || d.Name != c.Name || d.MemoryMiB != listed(c, c.MemoryMiB) || d.Weight != c.Weight {
		s.Fatalf("after create %s there are %d: %+v", c.Type, n, d)
	}
	dir := "/local/domain/" + strconv.Itoa(d.DomID)
	if v, err := s.store.Read(s.ctx, dir+"/vm"); err != nil || v != "/vm/"+c.UUID {
		s.Fatalf("%s/vm is %q, %v", dir, v, err)
	}
	if v, err := s.store.Read(s.ctx, dir+"/name"); err != nil || v != c.Name {
		s.Fatalf("%s/name is %q, %v", dir, v, err)
	}
	s.served(d.DomID, len(c.Disks))
	after, err := s.tools.Info(s.ctx)
	s.must(err, "info")
	s.Logf("create %s %d MiB %d vcpus took %s; memory taken %d MiB", c.Type, c.MemoryMiB, c.VCPUs, took.Round(time.Millisecond), before.FreeMiB-after.FreeMiB)
	return d
}

// served checks that the kernel has what it needs to serve a domain's disks.
func (s *suite) served(domid, disks int) {
	dir := "/local/domain/0/backend/vbd/" + strconv.Itoa(domid)
	ids, err := s.store.Children(s.ctx, dir)
	if err != nil || len(ids) != disks {
		s.Fatalf("domain %d has disks %q, %v; want %d", domid, ids, err, disks)
	}
	for _, id := range ids {
		for node, want := range map[string]string{"dev": events.SlotPrimary, "params": s.guests.Disk, "hotplug-status": "connected"} {
			if v, err := s.store.Read(s.ctx, dir+"/"+id+"/"+node); err != nil || v != want {
				s.Fatalf("%s of disk %s is %q, %v; want %q", node, id, v, err, want)
			}
		}
		if v, err := s.store.Read(s.ctx, dir+"/"+id+"/physical-device"); err != nil || len(v) < 3 {
			s.Fatalf("device number of disk %s is %q, %v", id, v, err)
		}
	}
}

// listed is the RAM that the hypervisor counts: of an HVM domain's a little less.
func listed(c host.Config, mib int) int {
	if c.Type == events.TypeHVM {
		return mib - 1
	}
	return mib
}

// models checks whether a domain has a device model.
func (s *suite) models(domid int, want bool) {
	all, err := s.tools.DeviceModels(s.ctx)
	s.must(err, "list device models")
	if slices.Contains(all, domid) != want {
		s.Fatalf("device models of domains %v; domain %d should have one: %t", all, domid, want)
	}
}

// resize: what is running becomes smaller, and as large as before.
func (s *suite) resize(c host.Config, domid int) {
	for _, mib := range []int{c.MemoryMiB - 24, c.MemoryMiB} {
		began := time.Now()
		s.must(s.tools.SetMemory(s.ctx, domid, mib), "set memory")
		for d, _ := s.find(c.UUID); d.MemoryMiB != listed(c, mib); d, _ = s.find(c.UUID) {
			if time.Since(began) > patience {
				s.Fatalf("it has %d MiB, want %d", d.MemoryMiB, listed(c, mib))
			}
			time.Sleep(100 * time.Millisecond)
		}
		s.Logf("%d MiB after %s", mib, time.Since(began).Round(time.Millisecond))
	}
}

func (s *suite) act(a host.Action, domid int) {
	began := time.Now()
	s.must(s.tools.Act(s.ctx, a, domid), string(a))
	s.Logf("%s took %s", a, time.Since(began).Round(time.Millisecond))
}

// life: a domain from create to destroy.
func (s *suite) life(kind, uuid string) {
	c := s.config(kind, uuid, "")
	d := s.create(c)
	if err := s.tools.Create(s.ctx, c); err == nil {
		s.Fatalf("a second domain of the same name was made")
	}
	if again, n := s.find(uuid); n != 1 || again != d {
		s.Fatalf("after a refused second create there are %d: %+v", n, again)
	}
	s.must(s.tools.SetWeight(s.ctx, d.DomID, 7), "set weight")
	if d, _ = s.find(uuid); d.Weight != 7 {
		s.Fatalf("weight is %d, want 7", d.Weight)
	}
	s.act(host.ActUnpause, d.DomID)
	s.until(uuid, events.DomainRunning, "")
	s.act(host.ActPause, d.DomID)
	s.until(uuid, events.DomainPaused, "")
	s.act(host.ActUnpause, d.DomID)
	s.models(d.DomID, kind == events.TypeHVM)
	s.resize(c, d.DomID)
	s.shutdown(uuid, d.DomID)
	if d, _ = s.find(uuid); !d.Ran {
		s.Fatalf("the domain ran and does not say so: %+v", d)
	}
	s.gone(d)
}

// shutdown asks until the guest obeys: one that is still booting cannot hear it.
func (s *suite) shutdown(uuid string, domid int) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		s.must(s.tools.Act(s.ctx, host.ActShutdown, domid), "shutdown")
		for range 20 {
			if d, _ := s.find(uuid); d.State == events.DomainShutdown {
				if d.ShutdownReason != "poweroff" {
					s.Fatalf("shut down for %q", d.ShutdownReason)
				}
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	s.Fatalf("the guest did not shut down within %s", patience)
}

// gone destroys a domain and checks that nothing but its stamp would be left.
func (s *suite) gone(d host.Domain) {
	dir := "/local/domain/" + strconv.Itoa(d.DomID)
	stamp := host.StampRoot + "/" + strconv.Itoa(d.DomID)
	s.must(s.store.Write(s.ctx, stamp+"/how", "suite"), "write stamp")
	s.act(host.ActDestroy, d.DomID)
	if _, n := s.find(d.UUID); n != 0 {
		s.Fatalf("%d domains after destroy", n)
	}
	s.models(d.DomID, false)
	s.must(s.tools.Act(s.ctx, host.ActDestroy, d.DomID), "destroy what is gone")
	s.served(d.DomID, 0)
	if _, err := s.store.Read(s.ctx, dir+"/vm"); !errors.Is(err, host.ErrNoNode) {
		s.Fatalf("%s/vm is still there: %v", dir, err)
	}
	if v, err := s.store.Read(s.ctx, stamp+"/how"); err != nil || v != "suite" {
		s.Fatalf("the stamp did not outlive its domain: %q, %v", v, err)
	}
	s.must(s.store.Remove(s.ctx, stamp), "remove stamp")
}

// ending: a guest that ends by itself stays, and says why.
func (s *suite) ending(word, uuid string) {
	d := s.create(s.config(events.TypePV, uuid, "ce.after=1:"+word))
	s.act(host.ActUnpause, d.DomID)
	state := events.DomainShutdown
	if word == "crash" {
		state = events.DomainCrashed
	}
	d = s.until(uuid, state, word)
	s.Logf("the guest's own %s is seen as %s", word, d.State)
	s.gone(d)
}
