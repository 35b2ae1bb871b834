package commands

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"cloudengine/events"
)

// newNetworkWorld has two hosts on an underlay, and network back of account demo with the subnet back4.
func newNetworkWorld(t testing.TB) *world {
	w := newWorld(t)
	w.refused(w.do("network.create", CreateNetwork{Account: w.account("demo"), Name: "back"}), events.CodeConflict, "") // no underlay
	w.id("wire", w.must(w.do("fabric.create", CreateFabric{Name: "wire", Transport: events.TransportVXLAN, Subnet: "10.77.3.0/24"})))
	for i, h := range []string{"h1", "h2"} {
		w.addHost(h, 4000)
		w.must(w.do("fabric.join", JoinFabric{Fabric: events.FabricID(w.ids["wire"]), Machine: w.host(h), MAC: fmt.Sprintf("52:54:00:00:02:%02x", i)}))
	}
	w.id("back", w.must(w.do("network.create", CreateNetwork{Account: w.account("demo"), Name: "back"})))
	w.id("back4", w.must(w.do("subnet.create", CreateSubnet{Network: w.network("back"), Name: "back4", CIDR: "10.0.0.0/24"})))
	return w
}

func (w *world) account(name string) events.AccountID { return events.AccountID(w.ids[name]) }
func (w *world) network(name string) events.NetworkID { return events.NetworkID(w.ids[name]) }
func (w *world) subnet(name string) events.SubnetID   { return events.SubnetID(w.ids[name]) }

// onNetwork makes a VM with a NIC there.
func (w *world) onNetwork(name, network string) events.Decision {
	d := w.do("vm.create", CreateVM{Account: w.account("demo"), Name: name, Type: "pv", VCPUs: 1, MemoryMiB: 64, Template: events.TemplateID(w.ids["tiny"]), Network: w.network(network)})
	w.id(name, d)
	return d
}

func nicIn(t testing.TB, d events.Decision) events.NICCreated {
	t.Helper()
	for _, e := range d.Events {
		if nic, ok := e.Data.(events.NICCreated); ok {
			return nic
		}
	}
	t.Fatalf("no NIC was made: %+v", d.Outcome)
	return events.NICCreated{}
}

func TestI4AddressesAreGivenOnce(t *testing.T) {
	w := newNetworkWorld(t)
	one, two := nicIn(t, w.onNetwork("a", "back")), nicIn(t, w.onNetwork("b", "back"))
	if one.Addresses[0].Address != "10.0.0.2" || two.Addresses[0].Address != "10.0.0.3" || one.MAC == two.MAC || one.Name != "a-eth0" {
		t.Fatalf("%+v %+v", one, two)
	}
	w.refused(w.do("nic.create", CreateNIC{VM: w.vm("a"), Network: w.network("back"), Addresses: []string{"10.0.0.3"}}), events.CodeConflict, "")
	w.refused(w.do("nic.create", CreateNIC{VM: w.vm("a"), Network: w.network("back"), MAC: two.MAC}), events.CodeConflict, "")
	w.refused(w.do("nic.create", CreateNIC{VM: w.vm("a"), Network: w.network("back"), MAC: "52:54:00:00:00:01"}), events.CodeConflict, "") // h1's
	w.refused(w.do("nic.create", CreateNIC{VM: w.vm("a"), Network: w.network("back"), Slot: events.SlotNIC0}), events.CodeConflict, "")
	for _, hosts := range []string{"00:00:00:00:00:00", "fe:ff:ff:ff:ff:ff", "02:ce:00:00:10:00", "02:ce:10:00:10:00"} {
		w.refused(w.do("nic.create", CreateNIC{VM: w.vm("a"), Network: w.network("back"), MAC: hosts}), events.CodeConflict, "")
	}
	for _, no := range []string{"10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.2", "fd00::2", "10.0.0.300"} {
		w.refused(w.do("nic.create", CreateNIC{VM: w.vm("a"), Network: w.network("back"), Addresses: []string{no}}), events.CodeConflict, "")
	}
	w.must(w.do("vm.delete", VMRef{w.vm("a")})) // its NIC goes with it, and its address is free
	if again := nicIn(t, w.onNetwork("c", "back")); again.Addresses[0].Address != "10.0.0.2" {
		t.Fatalf("%+v", again)
	}
	w.audit()
}

func TestReservedAddressesAreGivenByNameOnly(t *testing.T) {
	w := newNetworkWorld(t)
	w.must(w.do("subnet.reserve", SubnetAddress{w.subnet("back4"), "10.0.0.2"}))
	w.nothing(w.do("subnet.reserve", SubnetAddress{w.subnet("back4"), "10.0.0.2"}))
	w.refused(w.do("subnet.reserve", SubnetAddress{w.subnet("back4"), "10.0.0.1"}), events.CodeConflict, "")
	if nic := nicIn(t, w.onNetwork("a", "back")); nic.Addresses[0].Address != "10.0.0.3" {
		t.Fatalf("%+v", nic)
	}
	w.refused(w.do("subnet.reserve", SubnetAddress{w.subnet("back4"), "10.0.0.3"}), events.CodeConflict, "")
	w.createVM("b", 64)
	w.id("b0", w.must(w.do("nic.create", CreateNIC{VM: w.vm("b"), Network: w.network("back"), Addresses: []string{"10.0.0.2"}})))
	w.nothing(w.do("subnet.release", SubnetAddress{w.subnet("back4"), "10.0.0.2"})) // it is a NIC's now
	w.must(w.do("nic.delete", NICRef{events.NICID(w.ids["b0"])}))
	w.must(w.do("subnet.reserve", SubnetAddress{w.subnet("back4"), "10.0.0.2"}))
	w.must(w.do("subnet.release", SubnetAddress{w.subnet("back4"), "10.0.0.2"}))
	if nic := nicIn(t, w.onNetwork("c", "back")); nic.Addresses[0].Address != "10.0.0.2" {
		t.Fatalf("%+v", nic)
	}
	w.audit()
}

func TestARangeRunsOut(t *testing.T) {
	w := newNetworkWorld(t)
	w.id("small", w.must(w.do("network.create", CreateNetwork{Account: w.account("demo"), Name: "small"})))
	w.refused(w.onNetwork("x", "small"), events.CodeConflict, "") // no subnet
	w.id("s4", w.must(w.do("subnet.create", CreateSubnet{Network: w.network("small"), Name: "s4", CIDR: "10.0.0.0/24", First: "10.0.0.10", Last: "10.0.0.11"})))
	w.must(w.onNetwork("a", "small"))
	w.must(w.onNetwork("b", "small"))
	w.refused(w.onNetwork("c", "small"), events.CodeNoCapacity, "")
	w.id("s6", w.must(w.do("subnet.create", CreateSubnet{Network: w.network("small"), Name: "s6", CIDR: "fd00:1::/64"})))
	w.id("t4", w.must(w.do("subnet.create", CreateSubnet{Network: w.network("small"), Name: "t4", CIDR: "10.0.1.0/24"})))
	if nic := nicIn(t, w.onNetwork("d", "small")); len(nic.Addresses) != 2 || nic.Addresses[0].Address != "10.0.1.2" || nic.Addresses[1].Address != "fd00:1::2" {
		t.Fatalf("%+v", nic)
	}
	w.refused(w.do("subnet.delete", SubnetRef{w.subnet("s4")}), events.CodeConflict, "")
	w.refused(w.do("network.delete", NetworkRef{w.network("small")}), events.CodeConflict, "")
	w.audit()
}

func TestSubnetsThatCannotBe(t *testing.T) {
	w := newNetworkWorld(t)
	for cidr, code := range map[string]string{
		"10.0.0.128/25": events.CodeConflict, "10.0.0.0/16": events.CodeConflict, // overlap
		"10.9.0.1/24": events.CodeInvalid, "127.0.0.0/8": events.CodeInvalid, "224.1.0.0/24": events.CodeInvalid, "169.254.0.0/16": events.CodeInvalid,
		"0.0.0.0/8": events.CodeInvalid, "fe80::/64": events.CodeInvalid, "ff02::/64": events.CodeInvalid, "10.9.0.0/30": events.CodeInvalid,
		"::ffff:10.0.0.0/120": events.CodeInvalid, "10.9.0.0/33": events.CodeInvalid, "10.9/16": events.CodeInvalid,
	} {
		w.refused(w.do("subnet.create", CreateSubnet{Network: w.network("back"), Name: "bad", CIDR: cidr}), code, "")
	}
	for _, r := range [][2]string{{"10.9.0.1", ""}, {"10.8.0.9", ""}, {"", "10.9.0.255"}, {"10.9.0.9", "10.9.0.8"}, {"fd00::9", ""}} {
		w.refused(w.do("subnet.create", CreateSubnet{Network: w.network("back"), Name: "bad", CIDR: "10.9.0.0/24", First: r[0], Last: r[1]}), events.CodeInvalid, "")
	}
	w.id("other", w.must(w.do("network.create", CreateNetwork{Account: w.account("demo"), Name: "other"})))
	w.must(w.do("subnet.create", CreateSubnet{Network: w.network("other"), Name: "other4", CIDR: "10.0.0.0/24"})) // another network's addresses are another's
	w.refused(w.do("network.create", CreateNetwork{Account: w.account("demo"), Name: "big", MTU: 1451}), events.CodeConflict, "")
	w.refused(w.do("pool.create", CreatePool{Name: "gold", Fabric: events.FabricID(w.ids["wire"])}), events.CodeConflict, "")
	w.audit()
}

func TestNICsChangeWhileNothingRuns(t *testing.T) {
	w := newNetworkWorld(t)
	w.must(w.onNetwork("a", "back"))
	nic := w.s.vms[w.vm("a")].nics[events.SlotNIC0].ID
	w.must(w.do("vm.start", StartVM{VM: w.vm("a")}))
	w.refused(w.do("nic.delete", NICRef{nic}), events.CodeConflict, "")
	w.refused(w.do("nic.create", CreateNIC{VM: w.vm("a"), Network: w.network("back")}), events.CodeConflict, "")
	host := w.nameOf(w.s.vms[w.vm("a")].Grant.Host)
	w.refused(w.do("fabric.leave", LeaveFabric{events.FabricID(w.ids["wire"]), w.host(host)}), events.CodeConflict, "")
	w.audit()
}

// I4: a VM is not placed where its networks are not.
func TestAHostWithoutTheUnderlayTakesNone(t *testing.T) {
	w := newNetworkWorld(t)
	w.addHost("h3", 64000) // the best one, but for that
	w.must(w.onNetwork("a", "back"))
	w.must(w.do("vm.start", StartVM{VM: w.vm("a")}))
	if host := w.s.vms[w.vm("a")].Grant.Host; host == w.host("h3") {
		t.Fatal("the VM was placed on a host that is not on the underlay of its network")
	}
	w.audit()
}

// I9: an account sees and takes only what is its own.
func TestI9NetworksOfOthers(t *testing.T) {
	w := newNetworkWorld(t)
	w.id("rival", w.must(w.do("account.create", CreateAccount{"rival"})))
	w.must(w.do("user.create", CreateUser{Name: "eve", Key: newTestKey(), Role: events.RoleOperate, Account: w.account("rival")}))
	w.must(w.onNetwork("a", "back"))
	nic := nicOf(w, "a")
	for verb, args := range map[string]any{
		"network.delete": NetworkRef{w.network("back")},
		"subnet.create":  CreateSubnet{Network: w.network("back"), Name: "mine", CIDR: "10.5.0.0/24"},
		"subnet.delete":  SubnetRef{w.subnet("back4")},
		"subnet.reserve": SubnetAddress{w.subnet("back4"), "10.0.0.9"},
		"nic.delete":     NICRef{nic.ID},
		"nic.create":     CreateNIC{VM: w.vm("a"), Network: w.network("back")},
		"vm.create":      CreateVM{Account: w.account("rival"), Name: "v", Type: "pv", MemoryMiB: 64, Template: events.TemplateID(w.ids["tiny"]), Network: w.network("back")},
	} {
		w.refused(w.as("eve", verb, args), events.CodeNotFound, "")
	}
	w.refused(w.as("eve", "network.create", CreateNetwork{Account: w.account("rival"), Name: "back", Fabric: events.FabricID(w.ids["wire"])}), events.CodeForbidden, "")
	w.id("evil", w.must(w.as("eve", "network.create", CreateNetwork{Account: w.account("rival"), Name: "back"})))
	w.must(w.as("eve", "subnet.create", CreateSubnet{Network: w.network("evil"), Name: "back4", CIDR: "10.0.0.0/24"}))
	w.id("v", w.must(w.as("eve", "vm.create", CreateVM{Account: w.account("rival"), Name: "v", Type: "pv", MemoryMiB: 64, Template: events.TemplateID(w.ids["tiny"]), Network: w.network("evil")})))
	d := w.as("eve", "nic.create", CreateNIC{VM: w.vm("v"), Network: w.network("evil"), MAC: nic.Data.MAC})
	w.refused(d, events.CodeConflict, "")
	if want := "the MAC address " + nic.Data.MAC + " is taken by something else"; d.Outcome.Message != want {
		t.Errorf("eve is told %q", d.Outcome.Message)
	}
	w.refused(w.do("nic.create", CreateNIC{VM: w.vm("v"), Network: w.network("back")}), events.CodeNotFound, "") // not even by an administrator
	w.audit()
}

func nicOf(w *world, vm string) *NIC { return w.s.vms[w.vm(vm)].nics[events.SlotNIC0] }

// TestRandomNetworks: whatever is asked in whatever order, the oracle finds nothing, and the lowest free address is the one that is given.
func TestRandomNetworks(t *testing.T) {
	for seed := range uint64(40) {
		w := newNetworkWorld(t)
		w.must(w.do("subnet.create", CreateSubnet{Network: w.network("back"), Name: "tiny4", CIDR: "10.1.0.0/28", Last: "10.1.0.9"}))
		rng := rand.New(rand.NewPCG(seed, 5))
		vms := 0
		for range 150 {
			ip := fmt.Sprintf("10.0.0.%d", rng.IntN(20))
			switch vm := fmt.Sprint("v", rng.IntN(vms+1)); rng.IntN(8) {
			case 0, 1, 2:
				want, ok := lowestFree(w.s.networks.subnets[w.subnet("back4")])
				d := w.onNetwork(fmt.Sprint("v", vms), "back")
				if vms++; ok && nicIn(t, d).Addresses[0].Address != want.String() {
					t.Fatalf("seed %d: got %+v, want %s", seed, nicIn(t, d), want)
				}
			case 3:
				w.do("vm.delete", VMRef{w.vm(vm)})
			case 4:
				w.do("subnet.reserve", SubnetAddress{w.subnet("back4"), ip})
			case 5:
				w.do("subnet.release", SubnetAddress{w.subnet("back4"), ip})
			case 6:
				w.do("nic.create", CreateNIC{VM: w.vm(vm), Network: w.network("back"), Addresses: []string{ip}})
			case 7:
				w.do("vm.start", StartVM{VM: w.vm(vm)})
			}
		}
		w.audit()
	}
}

// lowestFree is what free should give, the slow way.
func lowestFree(x *Subnet) (netip.Addr, bool) {
	for ip := netip.MustParseAddr(x.Data.First); !x.last.Less(ip); ip = ip.Next() {
		if !x.has(ip) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// BenchmarkAddresses gives and takes back an address of a subnet of which a million are given.
func BenchmarkAddresses(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := &Subnet{Data: events.SubnetCreated{First: "10.0.0.2"}, prefix: netip.MustParsePrefix("10.0.0.0/8"), last: netip.MustParseAddr("10.255.255.254"),
				next: netip.MustParseAddr("10.0.0.2"), taken: map[netip.Addr]events.NICID{}, waiting: map[netip.Addr]bool{}}
			for range n {
				ip, _ := x.free()
				x.take(ip, "nic")
			}
			for i := 0; b.Loop(); i++ {
				ip, ok := x.free()
				if !ok {
					b.Fatal("none is free")
				}
				x.take(ip, "nic")
				if i%2 == 0 {
					x.give(netip.MustParseAddr("10.0.0.2"))
				}
			}
		})
	}
}
