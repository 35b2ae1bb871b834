//go:build soak

package scenarios

import (
	"testing"
	"time"

	"cloudengine/e2e/rack"
	"cloudengine/events"
)

// TestSoakStorage makes the chain over both transports. While the VM writes, storage nodes and proxies die, hang and are cut off.
func TestSoakStorage(t *testing.T) {
	for _, m := range shared.Machines() {
		logOnFailure(t, m.Name)
		must(t, "machine", "power", "on", m.Name, "--wait", "--timeout", "5m")
	}
	over(t, events.TransportISCSI, func() {
		t.Run("boot", func(t *testing.T) { bootsFromItsDisk(t, linuxGuest(t), ofRole(rack.RoleHost)...) })
		t.Run("bios", func(t *testing.T) { bootsFromItsDisk(t, biosGuest(t), ofRole(rack.RoleHost)[0]) })
	}, func() {
		t.Run("limits", diskLimited)
		t.Run("hvm", machineWithDisks)
		t.Run("failover", arrayMoved)
		t.Run("node", nodeDied)
		t.Run("leg", legReplaced)
		t.Run("check", arrayChecked)
		t.Run("paused", resyncPaused)
		t.Run("frozen", proxyFrozen)
		t.Run("cut", proxyCutOffFromUs)
		t.Run("fenced", proxyFencedOff)
		t.Run("reset", nodeRebootedInTakeover)
		t.Run("fence", fencedByHand)
		t.Run("both", bothProxiesDied)
		t.Run("agents", storageAgentsKilled)
		t.Run("second", secondWriterTried)
	})
	over(t, events.TransportSRP, func() {}, func() {
		t.Run("frozen", proxyFrozen)
		t.Run("fenced", proxyFencedOff)
		t.Run("node", nodeDied)
	})
}

// linuxGuest is the test guest on a disk of its own.
func linuxGuest(t *testing.T) diskGuest {
	t.Helper()
	image := bootDisk(t, map[string]string{"kernel": built("guest/vmlinux"), "guest.img": built("guest/guest.img")},
		"linux /boot/kernel.gz console=hvc0 ce.name=from-disk\ninitrd /boot/guest.img", "24m")
	return diskGuest{"linux", image, "128MiB", "name=from-disk", 15 * time.Minute, events.TypePV}
}

// debianGuest is a real distribution: built by "go tool task debian", told its name and a key the way cloud-init reads them.
func debianGuest() diskGuest {
	return diskGuest{"debian", built("debian/disk.img.zst"), "384MiB", "debian ready: hostname=debian keys=1", 20 * time.Minute, events.TypePV}
}

// TestSoakDebian: a real distribution boots from its disk, on one host and then on the other.
func TestSoakDebian(t *testing.T) {
	for _, m := range shared.Machines() {
		must(t, "machine", "power", "on", m.Name, "--wait", "--timeout", "5m")
	}
	sanSets = 4 // or it has no room
	defer func() { sanSets = 2 }()
	over(t, events.TransportSRP, func() { bootsFromItsDisk(t, debianGuest(), ofRole(rack.RoleHost)...) }, func() {})
}

// proxyFrozen stops the processors of the proxy that has the array. It is silent and serves nothing, and its controller says that it is on:
// without being asked, the control plane cuts its power, and the other one takes over. What it had queued never comes.
func proxyFrozen(t *testing.T) {
	hung, before := arrayWhole(t, ""), writing(t, 1)
	began := time.Now()
	if err := shared.Freeze(hung); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.Thaw(hung) }) // it is off, unless this failed
	done(t, theChain(t).TakenOver(t.Context(), hung))
	t.Logf("the array was taken over %.0f s after its owner hung", time.Since(began).Seconds())
	if on, err := shared.IsOn(hung); err != nil || on {
		t.Fatalf("the proxy that hung still has power: %t, %v", on, err)
	}
	stalled(t, "proxy that hung", before, 20)
	must(t, "machine", "power", "on", hung, "--wait", "--timeout", "5m")
	arrayWhole(t, "")
}

// proxyCutOffFromUs cuts the proxy that has the array off the bus. It is silent, and serves all the same: nothing may be done to it.
func proxyCutOffFromUs(t *testing.T) {
	owner, before, last := arrayWhole(t, ""), writing(t, 1), lastFact(t)
	if err := shared.CutBus(owner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.Restore(owner) })
	eventually(t, 3*time.Minute, owner+" is silent", func() (bool, string) {
		state := text(row(t, events.KindMachine, owner), "state")
		return state == "silent", state
	})
	stalled(t, "proxy cut off from the bus", before, 60)
	if err := shared.Restore(owner); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, owner+" is heard again", func() (bool, string) {
		state := text(row(t, events.KindMachine, owner), "state")
		return state == "up", state
	})
	for _, f := range factsSince(t, last) {
		switch f {
		case events.MachinePowerWanted{}.EventType(), events.ArrayOwnerEnded{}.EventType(), events.ArrayOwnerRevoked{}.EventType():
			t.Errorf("while the proxy was cut off from us, and served all hosts, the log says %s", f)
		}
	}
	arrayWhole(t, owner)
}

// bothProxiesDied takes the power of both away, and gives it back to the one that had nothing: it has the array then.
func bothProxiesDied(t *testing.T) {
	owner, before := arrayWhole(t, ""), writing(t, 1)
	var other string
	for _, p := range ofRole(rack.RoleProxy) {
		if p != owner {
			other = p
		}
		if err := shared.Kill(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "machine", "power", "on", other, "--wait", "--timeout", "5m")
	arrayWhole(t, other)
	stalled(t, "both proxies without power, then one back", before, 20)
	must(t, "machine", "power", "on", owner, "--wait", "--timeout", "5m")
	arrayWhole(t, other)
}

// nodeDied takes a storage node's power away while the VM writes, and gives it back: its legs are joined again.
func nodeDied(t *testing.T) {
	before := writing(t, 1)
	lost := nodeLost(t, before)
	must(t, "machine", "power", "on", "node1", "--wait", "--timeout", "5m")
	arrayWhole(t, "")
	stalled(t, "storage node back, legs joined again", lost, 20)
}

// nodeLost takes the power of node1 away, and waits until the array is known to lack its legs and the VM writes on.
func nodeLost(t *testing.T, before written) (lost written) {
	t.Helper()
	if err := shared.Kill(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	done(t, theChain(t).Degraded(t.Context()))
	return stalled(t, "storage node without power", before, 20)
}
