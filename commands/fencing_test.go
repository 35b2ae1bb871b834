package commands

import (
	"strings"
	"testing"

	"cloudengine/events"
)

// closes lets a storage node say of its legs what it gives them to now, obeying the newest document.
func (w *world) closes(node string, change ...func(*events.ExportReport)) events.Decision {
	w.t.Helper()
	var r events.StorageReport
	a := w.arr()
	for _, l := range a.Data.Legs {
		if w.s.storage.disks[l.Disk].Data.Node != w.host(node) {
			continue
		}
		x := events.ExportReport{Disk: l.Disk, Array: a.ID, To: []events.MachineID{}, State: events.ExportThere,
			Generation: events.Generation{Term: w.s.term, Number: w.s.last}}
		if a.Owner != nil {
			x.Epoch = a.Owner.Epoch
		}
		for _, f := range change {
			f(&x)
		}
		r.Exports = append(r.Exports, x)
	}
	return w.storage(node, r)
}

// fencedOff begins to fence an array off from an owner that is silent and has no controller.
func fencedOff(t *testing.T) (w *world, old Owner) {
	w = withArray(t)
	old = *w.arr().Owner
	w.silent(old.Proxy)
	w.must(w.do("array.failover", FailoverArray{Array: w.arr().ID, Fence: true}))
	return w, old
}

func (w *world) owns(o Owner) bool { x := w.arr().Owner; return x != nil && x.Epoch == o.Epoch }

// proofOf gives the proof with which an owner's grant ended.
func (w *world) proofOf(o Owner) string {
	for _, r := range w.log {
		for _, e := range r.Events {
			if x, ok := e.Data.(events.ArrayOwnerEnded); ok && x.Epoch == o.Epoch {
				return x.Proof
			}
		}
	}
	return ""
}

// TestI2AllLegsAreClosedBeforeAnotherOwns: one storage node's word is not enough.
func TestI2AllLegsAreClosedBeforeAnotherOwns(t *testing.T) {
	w, old := fencedOff(t)
	w.refused(w.do("array.failover", FailoverArray{Array: w.arr().ID, Fence: true}), events.CodeConflict, "")
	w.must(w.closes("n1"))
	if !w.owns(old) {
		t.Fatalf("after one of two storage nodes the owner is %+v", w.arr().Owner)
	}
	w.nothing(w.closes("n1")) // to say it again adds nothing
	w.must(w.closes("n2"))
	if o := w.arr().Owner; o == nil || o.Proxy == old.Proxy || o.Epoch.Compare(old.Epoch) <= 0 || w.proofOf(old) != events.ProofFenced {
		t.Fatalf("the next owner is %+v after %+v, by %q", o, old, w.proofOf(old))
	}
	w.must(w.reportArray(events.ArrayActive))
	for _, op := range w.s.ops {
		if op.Object.Kind == events.KindArray {
			t.Fatalf("operation %+v is open", op)
		}
	}
	w.audit()
}

// TestI2EachConditionOfFencing: what each of these lets a storage node say, or happens to it, keeps the owner. With it put right the owner ends.
func TestI2EachConditionOfFencing(t *testing.T) {
	type report = events.ExportReport
	for name, does := range map[string]func(w *world, old Owner){
		"of the owner": func(w *world, old Owner) { w.closes("n2", func(x *report) { x.To = append(x.To, old.Proxy) }) },
		"of another":   func(w *world, _ Owner) { w.closes("n2", func(x *report) { x.To = append(x.To, w.host("host1")) }) },
		"of before": func(w *world, _ Owner) {
			w.closes("n2", func(x *report) { x.Generation.Number = w.arr().fencing.since.Number - 1 })
		},
		"of no document":   func(w *world, _ Owner) { w.closes("n2", func(x *report) { x.Generation = events.Generation{} }) },
		"of a later term":  func(w *world, _ Owner) { w.closes("n2", func(x *report) { x.Generation.Term++ }) },
		"of another array": func(w *world, _ Owner) { w.closes("n2", func(x *report) { x.Array = "another" }) },
		"of another epoch": func(w *world, _ Owner) { w.closes("n2", func(x *report) { x.Epoch.Counter++ }) },
		"another boot": func(w *world, _ Owner) {
			w.closes("n2", func(*report) {})
		},
		"one leg of two": func(w *world, _ Owner) {
			n := 0
			w.closes("n2", func(x *report) {
				if n++; n > 1 {
					x.Disk = "of nobody"
				}
			})
		},
		"twice, and once open": func(w *world, old Owner) {
			r := events.StorageReport{}
			for _, l := range w.arr().Data.Legs {
				x := report{Disk: l.Disk, Array: w.arr().ID, Epoch: old.Epoch, Generation: events.Generation{Term: 1, Number: w.s.last}, State: events.ExportThere}
				open := x
				open.To = []events.MachineID{old.Proxy}
				r.Exports = append(r.Exports, open, x)
			}
			w.storage("n2", r)
		},
		"by the other node": func(w *world, old Owner) {
			r := events.StorageReport{}
			for _, l := range w.arr().Data.Legs {
				r.Exports = append(r.Exports, report{Disk: l.Disk, Array: w.arr().ID, Epoch: old.Epoch, Generation: events.Generation{Term: 1, Number: w.s.last}})
			}
			w.storage("n1", r)
		},
		"nothing of its legs": func(w *world, _ Owner) { w.storage("n2", events.StorageReport{Complete: true, Disks: w.disksOf("n2")}) },
		"the other one booted anew": func(w *world, _ Owner) {
			w.boot("n1", 2000)
			w.closes("n2")
		},
		"the other one opened it again": func(w *world, old Owner) {
			w.must(w.closes("n1", func(x *report) { x.To = append(x.To, old.Proxy) }))
			w.closes("n2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, old := fencedOff(t)
			w.must(w.closes("n1"))
			if name == "another boot" { // what this boot says comes after the next one has enrolled
				boot := w.s.machines[w.host("n2")].Boot
				w.boot("n2", 2000)
				w.late(boot)
			} else {
				does(w, old)
			}
			if !w.owns(old) {
				t.Fatalf("the owner was ended, by %q", w.proofOf(old))
			}
			w.closes("n1")
			w.must(w.closes("n2"))
			if w.owns(old) || w.proofOf(old) != events.ProofFenced {
				t.Fatalf("all legs are closed, and the owner is %+v", w.arr().Owner)
			}
			w.audit()
		})
	}
}

// TestI2ADiskThatMovesIsClosedWhereItIs: what a storage node said of a disk does not count for the one that has it now.
func TestI2ADiskThatMovesIsClosedWhereItIs(t *testing.T) {
	w, old := fencedOff(t)
	w.must(w.closes("n1"))
	disks := w.disksOf("n1")
	w.must(w.storage("n1", events.StorageReport{Complete: true}))
	w.addStorage("n3", events.RoleStorageNode, 0)
	w.must(w.storage("n3", events.StorageReport{Complete: true, Disks: disks}))
	w.must(w.closes("n2"))
	if !w.owns(old) {
		t.Fatal("two of four disks are elsewhere, where nobody said anything")
	}
	w.must(w.closes("n3"))
	if w.owns(old) {
		t.Fatal("all are closed where they are")
	}
	w.audit()
}

func (w *world) disksOf(node string) (out []events.DiskReport) {
	for _, id := range sortedKeys(w.s.storage.disks) {
		if x := w.s.storage.disks[id].Data; x.Node == w.host(node) {
			out = append(out, events.DiskReport{Serial: x.Serial, Bytes: x.Bytes, Health: x.Health})
		}
	}
	return out
}

// late lets another boot of n2 than the present one say that its legs are closed.
func (w *world) late(boot string) {
	w.t.Helper()
	r := events.StorageReport{Boot: boot}
	for _, l := range w.arr().Data.Legs {
		r.Exports = append(r.Exports, events.ExportReport{Disk: l.Disk, Array: w.arr().ID, Epoch: w.arr().Owner.Epoch,
			Generation: events.Generation{Term: 1, Number: w.s.last}, State: events.ExportThere})
	}
	w.refused(w.storage("n2", r), events.CodeStale, "")
}

// TestI2NothingIsFencedWithoutAllNodes: a storage node that cannot answer gives the owner its copy, perhaps.
func TestI2NothingIsFencedWithoutAllNodes(t *testing.T) {
	for name, happens := range map[string]func(w *world){
		"silent": func(w *world) { w.silent(w.host("n2")) },
		"off": func(w *world) {
			m := w.s.machines[w.host("n2")]
			w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: m.ID, Boot: m.Boot, State: events.PowerIsOff, Reads: 2}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := withArray(t)
			old := *w.arr().Owner
			happens(w)
			d := w.do("array.failover", FailoverArray{Array: w.arr().ID, Fence: true})
			w.refused(d, events.CodeConflict, "")
			if !strings.Contains(d.Outcome.Message, "n2: "+name) || w.arr().fencing != nil || !w.owns(old) {
				t.Fatalf("%s; %+v", d.Outcome.Message, w.arr())
			}
			w.audit()
		})
	}
}

// TestI2WhoWasFencedOffComesBack: the boot has the array still, with writes that wait: it gets no leg before it has given it up.
func TestI2WhoWasFencedOffComesBack(t *testing.T) {
	for name, ends := range map[string]func(w *world, old Owner) events.Decision{
		"given up": func(w *world, old Owner) events.Decision {
			x := events.ArrayReport{Array: w.arr().ID, Epoch: old.Epoch, State: events.ArrayStandby, Generation: events.Generation{Term: 1, Number: w.s.last}}
			return w.storage(w.nameOf(old.Proxy), events.StorageReport{Arrays: []events.ArrayReport{x}})
		},
		"booted anew": func(w *world, old Owner) events.Decision {
			w.boot(w.nameOf(old.Proxy), 2000)
			return w.storage(w.nameOf(old.Proxy), events.StorageReport{Complete: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, old := fencedOff(t)
			revoked := w.arr().fencing.since
			w.must(w.closes("n1"))
			w.must(w.closes("n2"))
			next := *w.arr().Owner
			w.back(old.Proxy)
			for _, x := range []events.ArrayReport{ // it wakes up as it was; and it obeys a document from before
				{Array: w.arr().ID, Epoch: old.Epoch, State: events.ArrayActive, Generation: events.Generation{Term: 1, Number: w.s.last}},
				{Array: w.arr().ID, Epoch: old.Epoch, State: events.ArrayStandby, Generation: events.Generation{Term: 1, Number: revoked.Number - 1}},
			} {
				w.nothing(w.storage(w.nameOf(old.Proxy), events.StorageReport{Arrays: []events.ArrayReport{x}}))
			}
			w.refused(w.do("array.failover", FailoverArray{Array: w.arr().ID, To: old.Proxy}), events.CodeConflict, "")
			w.refused(w.do("array.delete", ArrayRef{w.arr().ID}), events.CodeConflict, "")
			off := w.must(w.do("machine.power", PowerMachine{next.Proxy, events.PowerOff}))
			w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: next.Proxy, Operation: off.Intent, Boot: next.Boot, State: events.PowerIsOff, Reads: 2}))
			if o := w.arr().Owner; o != nil {
				t.Fatalf("only a boot that may hold the array is left, and %+v owns it", o)
			}
			w.must(ends(w, old))
			if o := w.arr().Owner; o == nil || o.Proxy != old.Proxy {
				t.Fatalf("nothing of the array is left there, and the owner is %+v", o)
			}
			w.audit()
		})
	}
}

// TestFencingEndsWithTheGrant: by any proof, and what was said for it does not count for the next.
func TestFencingEndsWithTheGrant(t *testing.T) {
	w, old := fencedOff(t)
	w.must(w.closes("n1"))
	w.back(old.Proxy)
	w.must(w.reportArray(events.ArrayStandby))
	if w.proofOf(old) != events.ProofCleanEnd || w.arr().fencing != nil {
		t.Fatalf("it was given up, and is fenced: %+v", w.arr())
	}
	next := *w.arr().Owner
	w.closes("n2")
	w.must(w.do("array.failover", FailoverArray{Array: w.arr().ID, Fence: true}))
	w.must(w.closes("n2"))
	if !w.owns(next) {
		t.Fatal("what was said of another fencing ended the owner")
	}
	w.must(w.closes("n1"))
	if w.owns(next) {
		t.Fatal("all legs are closed, and it owns them still")
	}
	w.audit()
}

// TestI5WordsOfAnEarlierTermDoNotFence: what followed them may be lost.
func TestI5WordsOfAnEarlierTermDoNotFence(t *testing.T) {
	w, old := fencedOff(t)
	w.must(w.closes("n1"))
	w.must(w.do("log.open", OpenLog{2, events.CauseReopened}))
	w.must(w.closes("n2"))
	if !w.owns(old) {
		t.Fatal("a word of an earlier term ended the owner")
	}
	w.must(w.closes("n1"))
	if w.owns(old) || w.arr().Owner != nil {
		t.Fatalf("the owner is %+v", w.arr().Owner)
	}
	w.audit()
}

// TestI2CutOffWithoutAController: hosts lost their way, and nothing proves that the proxy is off. It is fenced off; and where its power was to
// be taken first, after that was tried.
func TestI2CutOffWithoutAController(t *testing.T) {
	for name, happens := range map[string]func(w *world, m *Machine){
		"none that was proven": func(w *world, m *Machine) { m.BMCProven = false },
		"one that is silent": func(w *world, m *Machine) {
			w.must(w.as(ActorPower, "machine.report_bmc", ReportBMC{Machine: m.ID, Healthy: false, Detail: "no answer"}))
		},
		"one that fails":          func(w *world, m *Machine) {},
		"one that takes too long": func(w *world, m *Machine) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := withDiskUser(t)
			old := *w.arr().Owner
			m := w.s.machines[old.Proxy]
			happens(w, m)
			w.sees("host1", 1)
			w.silent(m.ID)
			w.sees("host1", 0)
			tried := len(w.cutting()) > 0
			if want := strings.HasPrefix(name, "one that fails") || strings.HasPrefix(name, "one that takes"); tried != want || want == (w.arr().fencing != nil) {
				t.Fatalf("power is cut: %t; fencing: %+v", tried, w.arr().fencing)
			}
			switch name {
			case "one that fails":
				w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: m.ID, Operation: m.powerOp, Boot: m.Boot, State: events.PowerIsUnknown, Error: "no answer"}))
			case "one that takes too long":
				w.now = w.now.Add(takeOverPower)
				for _, c := range w.s.Due(w.now) {
					w.run(c)
				}
			}
			if w.arr().fencing == nil || !w.owns(old) {
				t.Fatalf("it is not fenced off: %+v", w.arr())
			}
			w.must(w.closes("n2"))
			w.must(w.closes("n1"))
			if w.owns(old) || w.arr().Owner == nil {
				t.Fatalf("all legs are closed, and the owner is %+v", w.arr().Owner)
			}
			w.audit()
		})
	}
}

// TestCutOffAndANodeIsSilent: then nothing is fenced until it is heard again.
func TestCutOffAndANodeIsSilent(t *testing.T) {
	w := withDiskUser(t)
	m := w.s.machines[w.arr().Owner.Proxy]
	m.BMCProven = false
	w.sees("host1", 1)
	w.silent(m.ID)
	w.silent(w.host("n1"))
	w.sees("host1", 0)
	if w.arr().fencing != nil {
		t.Fatal("it is fenced off while a storage node is silent")
	}
	last := w.log[len(w.log)-1]
	if last.Verb != "take_over" || !strings.Contains(last.Outcome.Message, "n1: silent") {
		t.Fatalf("nobody is told why: %+v", last.Outcome)
	}
	w.back(w.host("n1"))
	if w.arr().fencing == nil {
		t.Fatal("all storage nodes answer, and it is not fenced off")
	}
	w.audit()
}

// TestWhatIsNotFenced: an order that is refused closes no leg.
func TestWhatIsNotFenced(t *testing.T) {
	for name, before := range map[string]func(w *world) FailoverArray{
		"nobody's": func(w *world) FailoverArray {
			for range 2 {
				m := w.s.machines[w.arr().Owner.Proxy]
				w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: m.ID, Boot: m.Boot, State: events.PowerIsOff, Reads: 2}))
			}
			return FailoverArray{}
		},
		"for its owner": func(w *world) FailoverArray { return FailoverArray{To: w.arr().Owner.Proxy} },
		"for a host":    func(w *world) FailoverArray { return FailoverArray{To: w.host("n1")} },
		"that is deleted": func(w *world) FailoverArray {
			w.must(w.do("array.delete", ArrayRef{w.arr().ID}))
			return FailoverArray{}
		},
		"in a new term": func(w *world) FailoverArray {
			w.must(w.do("log.open", OpenLog{2, events.CauseReopened}))
			return FailoverArray{}
		},
		"for nobody": func(w *world) FailoverArray {
			for _, p := range []string{"p1", "p2"} {
				if w.host(p) != w.arr().Owner.Proxy {
					w.silent(w.host(p))
				}
			}
			return FailoverArray{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := withArray(t)
			a := before(w)
			a.Array, a.Fence = w.arr().ID, true
			if d := w.do("array.failover", a); d.Outcome.Status != events.Refused || w.arr().fencing != nil {
				t.Fatalf("%+v; %+v", d.Outcome, w.arr().fencing)
			}
			w.audit()
		})
	}
}

// TestFencingAfterARevocation: an owner that was told to give the array up, and does not.
func TestFencingAfterARevocation(t *testing.T) {
	w := withArray(t)
	old := *w.arr().Owner
	w.must(w.do("array.failover", FailoverArray{Array: w.arr().ID}))
	d := w.must(w.do("array.failover", FailoverArray{Array: w.arr().ID, Fence: true}))
	if types(d) != "array.fencing_began operation.started" {
		t.Fatalf("events: %s", types(d))
	}
	w.must(w.closes("n1"))
	w.must(w.closes("n2"))
	if w.owns(old) || w.arr().Owner == nil {
		t.Fatalf("the owner is %+v", w.arr().Owner)
	}
	w.audit()
}
