package commands

import (
	"fmt"
	"strings"
	"testing"

	"cloudengine/events"
)

// testImage makes a manifest whose version is that of its content.
func testImage(t testing.TB, word string) events.BootManifest {
	t.Helper()
	m := events.BootManifest{Kernel: word, Packages: []events.BootPackage{}, Tools: []events.BootTool{}, Parts: []events.BootPart{{Name: "xen", Size: 3, SHA256: strings.Repeat("ab", 32)}}}
	if err := m.Seal(); err != nil {
		t.Fatal(err)
	}
	return m
}

func (w *world) register(word string) string {
	m := testImage(w.t, word)
	w.must(w.do("bootimage.register", RegisterBootimage{Manifest: m}))
	return m.Version
}

func (w *world) setImage(host, version string) events.Decision {
	return w.do("machine.set_image", SetMachineImage{w.host(host), version})
}

// next is what the machine boots next, and what a roll back would go to.
func (w *world) next(host string) [2]string {
	m := w.s.machines[w.host(host)]
	return [2]string{w.s.ImageOf(*m), m.ImageBefore}
}

func (w *world) wantNext(host, version, before string) {
	w.t.Helper()
	if got := w.next(host); got != [2]string{version, before} {
		w.t.Errorf("%s boots %q next and would go back to %q, want %q and %q", host, got[0], got[1], version, before)
	}
}

// bootOf boots a machine with the image that it is to be given, as netboot does.
func (w *world) bootOf(host, served, says string) events.Decision {
	w.boots++
	token := fmt.Sprintf("%064x", w.boots)
	w.must(w.as(ActorNetboot, "machine.report_boot_served", BootServed{w.host(host), token, "52:54:00:00:00:01", served}))
	return w.must(w.as(MachineActor(w.host(host)), "machine.enrol", Enrolment{Machine: w.host(host), TokenSHA256: token, Boot: bootID(w.boots),
		Key: testKeys[w.boots%len(testKeys)], Image: says, Inventory: events.Inventory{Capacity: &events.Capacity{AllocatableMiB: 4096, PCPUs: 4}}}))
}

func TestImageIsRegisteredAsItIs(t *testing.T) {
	w := newWorld(t)
	m := testImage(t, "one")
	forged := m
	forged.Kernel = "other"
	w.refused(w.do("bootimage.register", RegisterBootimage{Manifest: forged}), events.CodeConflict, "")
	w.must(w.do("bootimage.register", RegisterBootimage{Name: "november", Manifest: m}))
	w.nothing(w.do("bootimage.register", RegisterBootimage{Manifest: m}))
	w.refused(w.do("bootimage.register", RegisterBootimage{Name: "november", Manifest: testImage(t, "two")}), events.CodeNameTaken, "")
	for _, part := range []string{"", "../xen", ".hidden", "a/b"} {
		m := testImage(t, "three")
		m.Parts[0].Name = part
		w.refused(w.do("bootimage.register", RegisterBootimage{Manifest: m}), events.CodeInvalid, "")
	}
}

// TestImageOfAMachine: what is wanted takes effect at a boot and reboots nothing; a roll back goes to what ran before.
func TestImageOfAMachine(t *testing.T) {
	w := newWorld(t)
	w.addHost("h1", 4096)
	one, two, three := w.register("one"), w.register("two"), w.register("three")
	w.wantNext("h1", "", "")
	w.refused(w.setImage("h1", "0123456789abcdef"), events.CodeNotFound, "")
	d := w.setImage("h1", one)
	if w.must(d); len(d.Events) != 1 {
		t.Errorf("more follows from setting an image: %v", d.Events)
	}
	w.nothing(w.setImage("h1", one))
	w.wantNext("h1", one, "") // it runs something that is not registered
	w.bootOf("h1", one, one)
	w.must(w.setImage("h1", two))
	w.wantNext("h1", two, one)
	w.must(w.setImage("h1", three)) // two never ran
	w.wantNext("h1", three, one)
	w.bootOf("h1", three, three)
	w.must(w.setImage("h1", one))
	w.wantNext("h1", one, three)
	w.must(w.do("bootimage.set_default", BootimageRef{two}))
	w.nothing(w.do("bootimage.set_default", BootimageRef{two}))
	w.wantNext("h1", one, three)
	w.must(w.setImage("h1", ""))
	w.wantNext("h1", two, three)
}

func TestImageInUseStays(t *testing.T) {
	w := newWorld(t)
	w.addHost("h1", 4096)
	one, two, three, four := w.register("one"), w.register("two"), w.register("three"), w.register("four")
	w.must(w.setImage("h1", one))
	w.bootOf("h1", one, one)
	w.must(w.setImage("h1", two))
	w.bootOf("h1", two, two)
	w.must(w.do("bootimage.set_default", BootimageRef{three}))
	for _, used := range []string{one, two, three} {
		w.refused(w.do("bootimage.remove", BootimageRef{used}), events.CodeConflict, "")
	}
	w.must(w.do("bootimage.remove", BootimageRef{four}))
	w.refused(w.do("bootimage.remove", BootimageRef{four}), events.CodeNotFound, "")
	w.refused(w.setImage("h1", four), events.CodeNotFound, "")
	if again := w.register("four"); again != four {
		t.Errorf("the same content has version %s, then %s", four, again)
	}
}

// TestAnotherImageThanServedIsAContradiction: the machine is admitted, and that something is wrong is shown until its next boot.
func TestAnotherImageThanServedIsAContradiction(t *testing.T) {
	w := newWorld(t)
	w.addHost("h1", 4096)
	one, two := w.register("one"), w.register("two")
	if d := w.bootOf("h1", one, one); contradictions(d) != 0 {
		t.Errorf("a boot of what was served is a contradiction: %v", d.Events)
	}
	d := w.bootOf("h1", one, two)
	if contradictions(d) != 1 || w.s.machines[w.host("h1")].complaint == "" {
		t.Errorf("a boot of another image than was served is not shown: %v", d.Events)
	}
	if d := w.bootOf("h1", two, two); contradictions(d) != 0 || w.s.machines[w.host("h1")].complaint != "" {
		t.Errorf("the next boot still is a contradiction: %v", d.Events)
	}
}

func contradictions(d events.Decision) (n int) {
	for _, e := range d.Events {
		if _, is := e.Data.(events.MachineContradicted); is {
			n++
		}
	}
	return n
}

func (w *world) discover(mac, serial string) events.Decision {
	return w.as(ActorNetboot, "machine.report_discovered", ReportDiscovered{MAC: mac, Serial: serial})
}

// TestDiscoveredAreBounded: whoever sends on the boot network can make up MACs, but not fill the log.
func TestDiscoveredAreBounded(t *testing.T) {
	w := newWorld(t)
	mac := func(i int) string { return fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255) }
	before := len(w.log)
	for i := range 3 * MaxDiscovered {
		for range 2 {
			w.discover(mac(i), "")
		}
		for s := range 3 {
			w.discover(mac(i), fmt.Sprint("serial", s))
		}
	}
	if n := len(w.s.Discovered()); n != MaxDiscovered {
		t.Errorf("%d machines are held, want %d", n, MaxDiscovered)
	}
	if n := len(w.log) - before; n > 2*MaxDiscovered {
		t.Errorf("%d decisions were stored of %d machines", n, MaxDiscovered)
	}
	w.refused(w.as("admin", "machine.report_discovered", ReportDiscovered{MAC: mac(0)}), events.CodeForbidden, "")
	for _, bad := range []string{"", "52:54", "01:00:5e:00:00:01", "52:54:00:00:00:0A"} {
		w.refused(w.discover(bad, ""), events.CodeInvalid, "")
	}
	w.refused(w.discover(mac(0), "tab\tin it"), events.CodeInvalid, "")
}

func TestDiscoveredBecomesAMachineOrIsDropped(t *testing.T) {
	w := newWorld(t)
	one, two := "52:54:00:00:00:01", "52:54:00:00:00:02"
	w.must(w.as(ActorNetboot, "machine.report_discovered", ReportDiscovered{MAC: one, Class: "PXEClient"}))
	w.must(w.discover(one, "X1"))
	if d := w.s.Discovered()[0].Data; d.Class != "PXEClient" || d.Serial != "X1" {
		t.Errorf("it is known as %+v", d)
	}
	w.nothing(w.discover(one, "X2")) // what it said first stays
	w.must(w.discover(two, ""))
	w.must(w.do("discovered.drop", DiscoveredRef{DiscoveredID(two)}))
	w.nothing(w.discover(two, "X"))
	w.refused(w.do("discovered.drop", DiscoveredRef{DiscoveredID(two)}), events.CodeNotFound, "")
	d := w.must(w.do("machine.add", AddMachine{Name: "h1", MACs: []string{one}, Roles: []string{events.RoleHost}}))
	if len(d.Events) != 2 || len(w.s.Discovered()) != 0 {
		t.Errorf("it was added, and %d are held still: %v", len(w.s.Discovered()), d.Events)
	}
	w.nothing(w.discover(one, "X1"))
	w.must(w.do("machine.add", AddMachine{Name: "h2", MACs: []string{two}, Roles: []string{events.RoleHost}}))
	w.must(w.do("machine.remove", MachineRef{events.MachineID(d.Intent)}))
	w.must(w.discover(one, "X1")) // nobody knows it any more
}
