package scenarios

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/e2e/chain"
	"cloudengine/e2e/rack"
	"cloudengine/events"
	"cloudengine/projections"
)

// What the storage scenarios make, and take away again.
const (
	sanFabric = chain.Fabric
	sanPool   = chain.Pool
	sanArray  = chain.Array
	sanVolume = chain.Volume
	sanVM     = chain.VM
)

// sanSets is how many sets of disks the array has.
var sanSets = 2

// TestStorage: from blank disks in two storage nodes to a VM that writes to a volume and finds it again on another host. Then, while the VM
// writes, a proxy gives the array to the other, and the one that has it dies: no write is lost and none fails. It comes first, and switches
// the storage machines off in the end: the other scenarios do not need them. TestSoakStorage does more.
func TestStorage(t *testing.T) {
	t.Cleanup(func() {
		for _, m := range append(ofRole(rack.RoleProxy), ofRole(rack.RoleStorageNode)...) {
			must(t, "machine", "power", "off", m, "--wait", "--timeout", "3m")
		}
	})
	for _, m := range shared.Machines() {
		logOnFailure(t, m.Name)
	}
	over(t, events.TransportSRP, func() {
		t.Run("boot", func(t *testing.T) { bootsFromItsDisk(t, smallGuest(t), ofRole(rack.RoleHost)[0]) })
	}, func() {
		t.Run("failover", arrayMoved)
		t.Run("proxy", proxyDied)
	})
}

// over makes the chain over a transport, up to a VM that writes, and takes it away again after what is done to it; first, while nothing writes
// yet, something else may be done.
func over(t *testing.T, transport string, first, do func()) {
	t.Helper()
	done(t, theChain(t).Join(t.Context(), transport))
	arrayMade(t)
	first()
	volumeWritten(t)
	do()
	storageRemoved(t)
	verified(t)
	t.Logf("the chain over %s is shown", transport)
}

// theChain is the storage chain of the rack, for a test.
func theChain(t *testing.T) *chain.Chain {
	run := func(_ context.Context, args ...string) (string, error) {
		out, errs, code := cli(t, args...)
		if code != 0 {
			return out, fmt.Errorf("cloudengine %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
		}
		return out, nil
	}
	return &chain.Chain{Rack: shared, Bus: bus, Run: run, Say: t.Logf, Sets: sanSets}
}

// done fails the test with an error of the chain.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ofRole gives the names of the rack's machines with a role.
func ofRole(role string) []string { return (&chain.Chain{Rack: shared}).Of(role) }

// rows reads all objects of a kind by the bus.
func rows(t *testing.T, kind events.Kind) []map[string]any {
	t.Helper()
	all, err := theChain(t).Rows(t.Context(), kind)
	done(t, err)
	return all
}

// arrayMade makes a pool and an array over both nodes, and waits until a proxy has made it and serves it whole.
func arrayMade(t *testing.T) {
	t.Helper()
	done(t, theChain(t).Make(t.Context()))
	legs := map[string]int{}
	for _, d := range rows(t, events.KindDisk) {
		if text(d, "array_name") == sanArray {
			legs[text(d, "node_name")]++
			if text(d, "export_state") != events.ExportThere {
				t.Errorf("disk %s of an active array is %q", text(d, "serial"), text(d, "export_state"))
			}
		}
	}
	if want := map[string]int{"node1": sanSets, "node2": sanSets}; fmt.Sprint(legs) != fmt.Sprint(want) {
		t.Errorf("its legs are on %v, want %v", legs, want)
	}
}

// arrayWhole waits until the array is active with all its legs, on a proxy (empty: any), and says on which.
func arrayWhole(t *testing.T, on string) string {
	t.Helper()
	owner, err := theChain(t).Whole(t.Context(), on)
	done(t, err)
	return owner
}

// volumeWritten makes a volume, gives it to a VM that writes to it, and starts that VM on the other host: what it wrote is there.
func volumeWritten(t *testing.T) {
	done(t, theChain(t).Attach(t.Context()))
	if state := text(row(t, events.KindVolume, sanVolume), "state"); state != projections.VolumeIsReady {
		t.Fatalf("the volume is %s after its operation ended", state)
	}
	hosts := ofRole(rack.RoleHost)
	must(t, "vm", "start", sanVM, "--host", hosts[0], "--wait", "--timeout", "5m")
	disk := writing(t, 20)
	if disk.Holds != 0 {
		t.Errorf("a new volume holds %d blocks that a guest has written", disk.Holds)
	}
	must(t, "vm", "stop", sanVM, "--wait", "--timeout", "5m")
	must(t, "vm", "start", sanVM, "--host", hosts[len(hosts)-1], "--wait", "--timeout", "5m")
	if again := writing(t, 20); again.Holds < disk.Writes/2 {
		t.Errorf("%d blocks are found again, at least %d had been written", again.Holds, disk.Writes)
	}
}

// arrayMoved moves the array to the other proxy while the VM writes.
func arrayMoved(t *testing.T) {
	from := arrayWhole(t, "")
	before := writing(t, 1)
	must(t, "array", "failover", sanArray, "--wait", "--timeout", "5m")
	if to := arrayWhole(t, ""); to == from {
		t.Fatalf("the array is on %s as before", to)
	}
	stalled(t, "ordered switch of proxies", before, 20)
}

// proxyDied takes the power away from the proxy that has the array, while the VM writes. Nobody is asked: its controller's word that it is
// off is the proof with which the other one takes over. It comes back as the one that waits.
func proxyDied(t *testing.T) {
	dead, before := arrayWhole(t, ""), writing(t, 1)
	began := time.Now()
	if err := shared.Kill(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	done(t, theChain(t).TakenOver(t.Context(), dead))
	t.Logf("the array was taken over %.0f s after its owner's power was gone", time.Since(began).Seconds())
	stalled(t, "proxy without power", before, 20)
	must(t, "machine", "power", "on", dead, "--wait", "--timeout", "5m")
	if now := arrayWhole(t, ""); now == dead {
		t.Fatalf("the array went back to %s by itself", dead)
	}
}

// written is what the guest last said about its disk.
type written = chain.Written

// stalled prints the guest's longest write or read since it had done what since says, once it has written so many blocks more.
func stalled(t *testing.T, what string, since written, blocks int) written {
	t.Helper()
	now, worst, err := theChain(t).Stalled(t.Context(), since, blocks)
	done(t, err)
	t.Logf("%s: the guest's longest write or read took %.1f s, none failed", what, worst.Seconds())
	return now
}

// writing waits until the VM has written at least so many blocks since its start. No write may have failed, and none may be lost.
func writing(t *testing.T, blocks int) written {
	t.Helper()
	w, err := theChain(t).Writing(t.Context(), blocks)
	done(t, err)
	return w
}

// storageRemoved takes away what was made, the last first, and leaves blank disks.
func storageRemoved(t *testing.T) {
	t.Helper()
	must(t, "vm", "stop", sanVM, "--wait", "--timeout", "5m")
	must(t, "volume", "detach", sanVolume)
	must(t, "vm", "delete", sanVM)
	must(t, "volume", "delete", sanVolume, "--wait", "--timeout", "5m")
	must(t, "array", "delete", sanArray, "--wait", "--timeout", "5m")
	eventually(t, 3*time.Minute, "the disks of the array are wiped", func() (bool, string) {
		left := 0
		all := rows(t, events.KindDisk)
		for _, d := range all {
			if text(d, "wiping") != "" || text(d, "signature") != "" {
				left++
			}
		}
		return left == 0, fmt.Sprint(all)
	})
	must(t, "pool", "delete", sanPool)
	for _, m := range shared.Machines() {
		must(t, "fabric", "leave", sanFabric, m.Name)
	}
	must(t, "fabric", "delete", sanFabric)
}
