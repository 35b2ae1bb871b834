package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"cloudengine/e2e/rack"
	"cloudengine/events"
	"cloudengine/projections"
)

// What the storage scenarios make, in this order, and take away again.
const (
	sanFabric = "san"
	sanSubnet = "10.77.2.0/24"
	sanMTU    = "4200" // RDMA over Ethernet uses its largest packets
	sanPool   = "gold"
	sanArray  = "gold1"
	sanVolume = "data1"
	sanVM     = "disky"
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
	fabricJoined(t, transport)
	arrayMade(t)
	first()
	volumeWritten(t)
	do()
	storageRemoved(t)
	verified(t)
	t.Logf("the chain over %s is shown", transport)
}

// ofRole gives the names of the rack's machines with a role.
func ofRole(role string) (names []string) {
	for _, m := range shared.Machines() {
		if m.Role == role {
			names = append(names, m.Name)
		}
	}
	return names
}

// rows reads all objects of a kind by the bus.
func rows(t *testing.T, kind events.Kind) []map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	items, _, err := bus.List(ctx, kind, events.ReadRequest{})
	if err != nil {
		t.Fatalf("list %s: %v", kind, err)
	}
	all := make([]map[string]any, len(items))
	for i, raw := range items {
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			t.Fatalf("list %s: %v", kind, err)
		}
	}
	return all
}

// fabricJoined makes the storage network, attaches every machine's second card to it, and waits until the nodes' disks are known.
func fabricJoined(t *testing.T, transport string) {
	t.Helper()
	nodes, proxies := ofRole(rack.RoleStorageNode), ofRole(rack.RoleProxy)
	if len(nodes) != 2 || len(proxies) != 2 {
		t.Fatalf("the rack has storage nodes %v and proxies %v, want two of each", nodes, proxies)
	}
	must(t, "fabric", "create", sanFabric, "--transport", transport, "--subnet", sanSubnet, "--mtu", sanMTU)
	for _, m := range shared.Machines() {
		eventually(t, 8*time.Minute, m.Name+" is up", func() (bool, string) {
			state := text(row(t, events.KindMachine, m.Name), "state")
			return state == "up", state
		})
		must(t, "fabric", "join", sanFabric, m.Name, "--mac", m.SANMAC)
	}
	want := len(nodes) * shared.Config().Disks
	eventually(t, 3*time.Minute, fmt.Sprintf("%d disks are known and free", want), func() (bool, string) {
		found := 0
		all := rows(t, events.KindDisk)
		for _, d := range all {
			if d["gone"] != true && text(d, "array") == "" && text(d, "wiping") == "" {
				found++
			}
		}
		return found == want, fmt.Sprint(all)
	})
}

// arrayMade makes a pool and an array over both nodes, and waits until a proxy has made it and serves it whole.
func arrayMade(t *testing.T) {
	t.Helper()
	must(t, "pool", "create", sanPool, "--fabric", sanFabric, "--copies", "2")
	must(t, "array", "create", sanArray, "--pool", sanPool, "--sets", fmt.Sprint(sanSets))
	arrayWhole(t, "")
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
func arrayWhole(t *testing.T, on string) (owner string) {
	t.Helper()
	eventually(t, 8*time.Minute, "the array is active and whole", func() (bool, string) {
		a := row(t, events.KindArray, sanArray)
		owner = text(a, "owner_name")
		return text(a, "state") == events.ArrayActive && a["made"] == true && text(a, "degraded") == "0" && (on == "" || on == owner), fmt.Sprint(a)
	})
	return owner
}

// volumeWritten makes a volume, gives it to a VM that writes to it, and starts that VM on the other host: what it wrote is there.
func volumeWritten(t *testing.T) {
	must(t, "volume", "create", sanVolume, "--account", "demo", "--pool", sanPool, "--size", "64MiB", "--wait", "--timeout", "5m")
	if state := text(row(t, events.KindVolume, sanVolume), "state"); state != projections.VolumeIsReady {
		t.Fatalf("the volume is %s after its operation ended", state)
	}
	guest(t, sanVM, events.TypePV, "ce.disk="+events.SlotPrimary)
	must(t, "volume", "attach", sanVolume, "--vm", sanVM)
	hosts := ofRole(rack.RoleHost)
	must(t, "vm", "start", sanVM, "--host", hosts[0], "--wait", "--timeout", "5m")
	disk := writing(t, 20)
	if disk.holds != 0 {
		t.Errorf("a new volume holds %d blocks that a guest has written", disk.holds)
	}
	must(t, "vm", "stop", sanVM, "--wait", "--timeout", "5m")
	must(t, "vm", "start", sanVM, "--host", hosts[len(hosts)-1], "--wait", "--timeout", "5m")
	if again := writing(t, 20); again.holds < disk.writes/2 {
		t.Errorf("%d blocks are found again, at least %d had been written", again.holds, disk.writes)
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
	eventually(t, 8*time.Minute, "the other proxy has the array", func() (bool, string) {
		a := row(t, events.KindArray, sanArray)
		return text(a, "state") == events.ArrayActive && text(a, "owner_name") != dead, fmt.Sprint(a)
	})
	t.Logf("the array was taken over %.0f s after its owner's power was gone", time.Since(began).Seconds())
	stalled(t, "proxy without power", before, 20)
	must(t, "machine", "power", "on", dead, "--wait", "--timeout", "5m")
	if now := arrayWhole(t, ""); now == dead {
		t.Fatalf("the array went back to %s by itself", dead)
	}
}

// written is what the guest last said about its disk.
type written struct {
	holds, writes int
	longest       []stall
}

// stall is the longest write or read of ten seconds, and how many writes there had been in their end.
type stall struct {
	writes int
	lasted time.Duration
}

// stalled waits until the guest has written so many blocks more from now on, which is after what was done to its disk, and prints its longest write or
// read since it had done what since says. What it said last may be ten seconds old.
func stalled(t *testing.T, what string, since written, blocks int) written {
	t.Helper()
	next := writing(t, writing(t, 1).writes+1) // begun before, perhaps
	now, worst := writing(t, next.writes+blocks), time.Duration(0)
	for _, s := range now.longest {
		if s.writes > since.writes {
			worst = max(worst, s.lasted)
		}
	}
	t.Logf("%s: the guest's longest write or read took %.1f s, none failed", what, worst.Seconds())
	return now
}

var (
	diskHolds  = regexp.MustCompile(`guest: disk xvda holds=(\d+)`)
	diskWrites = regexp.MustCompile(`guest: disk xvda writes=(\d+) errors=(\d+) bad=(\d+) longest_ms=(\d+)`)
)

// writing waits until the VM has written at least so many blocks since its start. No write may have failed, and none may be lost.
func writing(t *testing.T, blocks int) (w written) {
	t.Helper()
	eventually(t, 5*time.Minute, fmt.Sprintf("its guest wrote %d blocks", blocks), func() (bool, string) {
		out := must(t, "vm", "console", sanVM, "--bytes", "65536")
		all := diskWrites.FindAllStringSubmatch(out, -1)
		if len(all) == 0 {
			return false, out
		}
		w.longest = nil
		for _, m := range all {
			n, _ := strconv.Atoi(m[1]) // digits
			ms, _ := strconv.Atoi(m[4])
			w.longest = append(w.longest, stall{n, time.Duration(ms) * time.Millisecond})
		}
		last := all[len(all)-1]
		if last[2] != "0" || last[3] != "0" {
			t.Fatalf("the guest's disk failed it:\n%s", out)
		}
		w.writes, _ = strconv.Atoi(last[1]) // digits
		if held := diskHolds.FindAllStringSubmatch(out, -1); len(held) > 0 {
			w.holds, _ = strconv.Atoi(held[len(held)-1][1])
		}
		return w.writes >= blocks, out
	})
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
