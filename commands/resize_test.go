package commands

import (
	"slices"
	"testing"

	"cloudengine/events"
)

// sized is what the host of a VM reports once it has carried out the last resize.
func (w *world) sized(name string, mib, vcpus int) events.DomainReport {
	x := w.domain(name, events.DomainRunning)
	x.MemoryMiB, x.VCPUs, x.Resizes = mib, vcpus, w.s.vms[w.vm(name)].Grant.size.resizes
	return x
}

func (w *world) resize(name string, a ResizeVM) events.Decision {
	a.VM = w.vm(name)
	return w.do("vm.resize", a)
}

func (w *world) free(host string) int { return w.s.hosts[w.host(host)].FreeMiB() }

// I4: memory that a domain shall give up is free once its host has said so, and not before; growth is counted before it may happen.
func TestResizeOfARunningVMKeepsToCapacity(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 400)
	w.createVM("web", 256)
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{w.sized("web", 256, 1)}}))
	full := w.free("host1")

	d := w.must(w.resize("web", ResizeVM{MemoryMiB: 128}))
	if got := types(d); got != "vm.resized vm.grant_resized operation.started" {
		t.Fatalf("a shrink gave %s", got)
	}
	if w.free("host1") != full {
		t.Fatal("memory is free before its host has reported it")
	}
	before := w.sized("web", 128, 1)
	before.Resizes-- // of a look before the resize
	w.report("host1", events.Report{Domains: []events.DomainReport{before}})
	if w.free("host1") != full {
		t.Fatal("a report that knows nothing of the resize was taken for its proof")
	}
	d = w.must(w.report("host1", events.Report{Domains: []events.DomainReport{w.sized("web", 128, 1)}}))
	if w.free("host1") != full+128 || !slices.Contains(typesOf(d), "operation.done.v1") {
		t.Fatalf("%d MiB free, want %d; %s", w.free("host1"), full+128, types(d))
	}

	w.createVM("other", 200)
	w.must(w.do("vm.start", StartVM{VM: w.vm("other")})) // takes what came free
	d = w.must(w.resize("web", ResizeVM{MemoryMiB: 256}))
	if got := types(d); got != "vm.resized" {
		t.Fatalf("growth without room gave %s", got)
	}
	w.must(w.do("vm.stop", VMRef{w.vm("other")}))
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("other")}}))
	w.must(w.resize("web", ResizeVM{MemoryMiB: 256}))
	if w.free("host1") != full {
		t.Fatalf("growth is not counted at once: %d MiB free, want %d", w.free("host1"), full)
	}
	w.audit()
}

// What is beyond what the domain was made with waits for the next start, and the grant is counted as it was.
func TestResizeBeyondTheDomainIsForTheNextStart(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 1000)
	w.id("web", w.must(w.do("vm.create", CreateVM{Account: events.AccountID(w.ids["demo"]), Name: "web", Type: "pvh", VCPUs: 1, MaxVCPUs: 4, MemoryMiB: 128,
		Template: events.TemplateID(w.ids["tiny"])})))
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	if g := w.s.vms[w.vm("web")].Grant; g.MemoryMiB != 128+Overhead("pvh", 128, 4) {
		t.Fatalf("counted with %d MiB: the overhead is that of the most vCPUs", g.MemoryMiB)
	}
	free := w.free("host1")
	if got := types(w.must(w.resize("web", ResizeVM{MemoryMiB: 512, VCPUs: 8}))); got != "vm.resized" || w.free("host1") != free {
		t.Fatalf("%s, %d MiB free, were %d", got, w.free("host1"), free)
	}
	if got := types(w.must(w.resize("web", ResizeVM{VCPUs: 3}))); got != "vm.resized vm.grant_resized operation.started" {
		t.Fatalf("vCPUs that its domain can have: %s", got)
	}
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{w.sized("web", 128, 3)}}))
	w.must(w.do("vm.stop", VMRef{w.vm("web")}))
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	vm := w.s.vms[w.vm("web")]
	if vm.Grant.size.memoryMiB != 512 || vm.Grant.size.vcpus != 3 || vm.Data.Weight != 1 {
		t.Fatalf("started with %+v", vm.Grant.size)
	}
	w.audit()
}

// A domain that was made again after it was shrunk can have no more than it was made with.
func TestResizeAfterADomainWasMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 1000)
	w.createVM("web", 256)
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{w.sized("web", 256, 1)}}))
	w.must(w.resize("web", ResizeVM{MemoryMiB: 128}))
	again := w.sized("web", 128, 1)
	again.DomID++
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{again}}))
	if got := types(w.must(w.resize("web", ResizeVM{MemoryMiB: 256}))); got != "vm.resized" {
		t.Fatalf("it was made with 128 MiB: %s", got)
	}
	w.audit()
}

func TestResizeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 1000)
	w.createVM("web", 128)
	w.nothing(w.resize("web", ResizeVM{}))
	w.refused(w.resize("web", ResizeVM{MemoryMiB: 10}), events.CodeInvalid, "")
	w.refused(w.resize("web", ResizeVM{MemoryMiB: 100000}), events.CodeNoCapacity, "")
	w.refused(w.resize("web", ResizeVM{VCPUs: 4, MaxVCPUs: 2}), events.CodeInvalid, "")
	w.nothing(w.resize("web", ResizeVM{MemoryMiB: 128, VCPUs: 1}))
	w.must(w.resize("web", ResizeVM{MemoryMiB: 2000 / 4, VCPUs: 2}))
	w.audit()
}

// The device models of HVM domains lie in the control domain's memory, which is counted apart.
func TestDeviceModelsKeepToTheControlDomain(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 4000)
	c := w.s.hosts[w.host("host1")].Capacity
	for _, name := range []string{"a", "b", "c"} {
		w.id(name, w.must(w.do("vm.create", CreateVM{Account: events.AccountID(w.ids["demo"]), Name: name, Type: "hvm", VCPUs: 1, MemoryMiB: 128, Template: events.TemplateID(w.ids["tiny"])})))
	}
	w.refused(w.do("vm.start", StartVM{VM: w.vm("a")}), events.CodeNoCapacity, "") // this host has no device model
	model := DeviceModel("hvm", testBlob.Size, 0)
	c.Types, c.DeviceModels = []string{"pv", "pvh", "hvm"}, 2*model
	w.must(w.report("host1", events.Report{Complete: true, Capacity: &c}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("a")}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("b")}))
	w.refused(w.do("vm.start", StartVM{VM: w.vm("c")}), events.CodeNoCapacity, "")
	w.must(w.do("vm.stop", VMRef{w.vm("a")}))
	w.refused(w.do("vm.start", StartVM{VM: w.vm("c")}), events.CodeNoCapacity, "")
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("a")}}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("c")}))
	w.audit()
}

func TestOverheadIsWhatWasMeasured(t *testing.T) {
	for _, c := range []struct{ mib, vcpus, pv, hap int }{{128, 1, 0, 2}, {128, 16, 1, 18}, {512, 1, 0, 4}, {512, 16, 1, 19}, {1024, 16, 1, 21}, {1536, 2, 0, 9}} {
		for kind, taken := range map[string]int{events.TypePV: c.pv, events.TypePVH: c.hap, events.TypeHVM: c.hap} {
			if got := Overhead(kind, c.mib, c.vcpus); got < taken || got > taken+3 {
				t.Errorf("%s of %d MiB and %d vCPUs takes %d MiB more, counted are %d", kind, c.mib, c.vcpus, taken, got)
			}
		}
	}
}

func typesOf(d events.Decision) []string {
	var out []string
	for _, e := range d.Events {
		out = append(out, e.Type)
	}
	return out
}

// A domain that nobody knows the type of cannot be taken for an emulated machine: its host would look for a device model.
func TestHVMAdoptsNothing(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	uuid := w.orphanOn("host1", 128)
	w.id("emu", w.must(w.do("vm.create", CreateVM{Account: events.AccountID(w.ids["demo"]), Name: "emu", Type: "hvm", VCPUs: 1, MemoryMiB: 128, Template: events.TemplateID(w.ids["tiny"])})))
	w.refused(w.do("host.adopt_orphan", AdoptOrphan{w.host("host1"), uuid, w.vm("emu")}), events.CodeConflict, "")
}
