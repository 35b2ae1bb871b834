package commands

import (
	"testing"

	"cloudengine/events"
)

// withDiskUser has an array, and host1 with a running VM that has a disk there.
func withDiskUser(t *testing.T) *world {
	w := withArray(t)
	w.createVolume("v1", 100)
	w.ready("v1")
	w.addHost("host1", 2000)
	w.must(w.do("fabric.join", JoinFabric{Fabric: events.FabricID(w.ids["san"]), Machine: w.host("host1"), MAC: "52:54:00:00:01:ff"}))
	w.createVM("web", 128)
	w.must(w.do("volume.attach", AttachVolume{Volume: w.volume("v1").ID, VM: w.vm("web")}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	return w
}

// sees lets a host report on its way to the array.
func (w *world) sees(host string, usable int) {
	w.t.Helper()
	d := w.storage(host, events.StorageReport{Paths: []events.PathReport{{Array: w.arr().ID, Paths: 2, Usable: usable}}})
	if d.Outcome.Status == events.Refused {
		w.t.Fatal(d.Outcome)
	}
}

func (w *world) silent(m events.MachineID) {
	w.t.Helper()
	w.must(w.as(ActorLiveness, "machine.report_silent", SilenceReport{m, w.s.machines[m].Boot}))
}

func (w *world) back(m events.MachineID) {
	w.t.Helper()
	w.must(w.as(ActorLiveness, "machine.report_returned", SilenceReport{m, w.s.machines[m].Boot}))
}

// cutting says for which machine a power-off by a reaction is open.
func (w *world) cutting() (out []string) {
	for _, id := range sortedKeys(w.s.machines) {
		if m := w.s.machines[id]; w.s.powerEnds(m) {
			out = append(out, m.Name)
		}
	}
	return out
}

// TestI2AProxyThatIsCutOffIsTakenOver: silent, and a host whose VM has a disk there lost its way. Its power goes, that is the proof, and the
// other proxy has the array.
func TestI2AProxyThatIsCutOffIsTakenOver(t *testing.T) {
	for name, order := range map[string][]func(w *world, owner events.MachineID){
		"silent first": {func(w *world, o events.MachineID) { w.silent(o) }, func(w *world, _ events.MachineID) { w.sees("host1", 0) }},
		"lost first":   {func(w *world, _ events.MachineID) { w.sees("host1", 0) }, func(w *world, o events.MachineID) { w.silent(o) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := withDiskUser(t)
			w.sees("host1", 1)
			old := *w.arr().Owner
			order[0](w, old.Proxy)
			if got := w.cutting(); got != nil {
				t.Fatalf("one witness is enough for %v", got)
			}
			order[1](w, old.Proxy)
			m := w.s.machines[old.Proxy]
			if got := w.cutting(); len(got) != 1 || got[0] != m.Name {
				t.Fatalf("power is being cut of %v, want %s", got, m.Name)
			}
			if o := w.arr().Owner; o == nil || *o != old {
				t.Fatalf("the owner was followed before the proof: %+v", o)
			}
			w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: m.ID, Operation: m.powerOp, Boot: m.Boot, State: events.PowerIsOff, Reads: 2}))
			if o := w.arr().Owner; o == nil || o.Proxy == old.Proxy {
				t.Fatalf("after the proof the owner is %+v", o)
			}
			w.silent(w.arr().Owner.Proxy)
			if got := w.cutting(); got != nil {
				t.Fatalf("what hosts said of the last owner cuts the power of %v", got)
			}
			w.audit()
		})
	}
}

// TestNoPowerIsCutOnOneWord: each of these lacks something.
func TestNoPowerIsCutOnOneWord(t *testing.T) {
	for name, happens := range map[string]func(w *world, owner events.MachineID){
		"silence": func(w *world, o events.MachineID) { w.sees("host1", 1); w.silent(o) },
		"a host that never had a way": func(w *world, o events.MachineID) {
			w.sees("host1", 0)
			w.silent(o)
		},
		"a host that has it again": func(w *world, o events.MachineID) {
			w.sees("host1", 1)
			w.sees("host1", 0)
			w.sees("host1", 1)
			w.silent(o)
		},
		"a host that is silent too": func(w *world, o events.MachineID) {
			w.sees("host1", 1)
			w.sees("host1", 0)
			w.silent(w.host("host1"))
			w.silent(o)
		},
		"the last boot of a host": func(w *world, o events.MachineID) {
			w.sees("host1", 1)
			w.sees("host1", 0)
			w.boot("host1", 2000)
			w.must(w.report("host1", events.Report{Complete: true}))
			if g := w.s.vms[w.vm("web")].Grant; g == nil || g.Boot != w.s.machines[w.host("host1")].Boot {
				w.t.Fatalf("the VM is not started again: %+v", g)
			}
			w.silent(o)
		},
		"a proxy that is back again": func(w *world, o events.MachineID) { w.sees("host1", 1); w.silent(o); w.back(o); w.sees("host1", 0) },
		"nobody to follow": func(w *world, o events.MachineID) {
			w.sees("host1", 1)
			for _, p := range []string{"p1", "p2"} {
				if w.host(p) != o {
					w.silent(w.host(p))
				}
			}
			w.silent(o)
			w.sees("host1", 0)
		},
		"many machines": func(w *world, o events.MachineID) {
			w.sees("host1", 1)
			w.silent(w.host("n1"))
			w.silent(w.host("n2"))
			w.silent(o)
			w.sees("host1", 0)
		},
		"a controller that proves nothing": func(w *world, o events.MachineID) {
			w.s.machines[o].BMCProven = false
			w.sees("host1", 1)
			w.silent(o)
			w.sees("host1", 0)
		},
		"another host that reaches it": func(w *world, o events.MachineID) {
			w.addHost("host2", 2000)
			w.must(w.do("fabric.join", JoinFabric{Fabric: events.FabricID(w.ids["san"]), Machine: w.host("host2"), MAC: "52:54:00:00:01:fe"}))
			w.createVolume("v2", 8)
			w.ready("v2")
			w.createVM("db", 1900)
			w.must(w.do("volume.attach", AttachVolume{Volume: w.volume("v2").ID, VM: w.vm("db")}))
			w.must(w.do("vm.start", StartVM{VM: w.vm("db")}))
			w.sees("host1", 1)
			w.sees("host2", 1)
			w.sees("host1", 0)
			w.silent(o)
		},
		"a vm that is gone": func(w *world, o events.MachineID) {
			w.sees("host1", 1)
			w.sees("host1", 0)
			w.must(w.do("vm.stop", VMRef{w.vm("web")}))
			w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
			w.silent(o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := withDiskUser(t)
			happens(w, w.arr().Owner.Proxy)
			if got := w.cutting(); got != nil {
				t.Fatalf("the power of %v is being cut", got)
			}
			w.audit()
		})
	}
}

// TestASecondReadingEndsAnOwner: the first time that "off" was read it proved nothing, and it is read again.
func TestASecondReadingEndsAnOwner(t *testing.T) {
	w := withArray(t)
	old := *w.arr().Owner
	for reads := range 2 {
		w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: old.Proxy, Boot: old.Boot, State: events.PowerIsOff, Reads: reads + 1}))
	}
	if o := w.arr().Owner; o == nil || o.Proxy == old.Proxy {
		t.Fatalf("it was read off twice, and the owner is %+v", o)
	}
	w.audit()
}
