package projections

import (
	"testing"

	"cloudengine/events"
)

func TestAddressesAreCountedWhereTheyAre(t *testing.T) {
	x := given(t).on(events.KindAccount, "acc", events.AccountCreated{Name: "demo"}).
		on(events.KindFabric, "f", events.FabricCreated{Name: "wire", Transport: events.TransportVXLAN}).
		on(events.KindNetwork, "n", events.NetworkCreated{Name: "back", Account: "acc", Fabric: "f", VNI: 4096, MTU: 1450}).
		on(events.KindSubnet, "s", events.SubnetCreated{Name: "back4", Account: "acc", Network: "n", CIDR: "10.0.0.0/24", First: "10.0.0.2", Last: "10.0.0.254", Server: "10.0.0.1"}).
		on(events.KindSubnet, "s", events.SubnetAddressReserved{Address: "10.0.0.9"}).
		on(events.KindSubnet, "s", events.SubnetAddressReserved{Address: "10.0.0.8"}).
		on(events.KindSubnet, "s", events.SubnetAddressReleased{Address: "10.0.0.8"}).
		on(events.KindVM, "v", events.VMCreated{Name: "web1", Account: "acc"})
	counts := func(subnets, nics, given, reserved, rows int) {
		t.Helper()
		n, s := x.rows[networkTable]["n"].(*Network), x.rows[subnetTable]["s"].(*Subnet)
		if n.Subnets != subnets || n.NICs != nics || s.Given != given || s.Reserved != reserved || len(x.rows[addressTable]) != rows {
			t.Fatalf("network %+v, subnet %+v, %d addresses", n, s, len(x.rows[addressTable]))
		}
	}
	counts(1, 0, 0, 1, 1)
	x.on(events.KindNIC, "i", events.NICCreated{Name: "web1-eth0", Account: "acc", VM: "v", Slot: "eth0", Network: "n", MAC: "00:16:3e:00:00:01",
		Addresses: []events.NICAddress{{Subnet: "s", Address: "10.0.0.9"}}})
	counts(1, 1, 1, 0, 1)
	if a := x.rows[addressTable]["s.10.0.0.9"].(*Address); a.State != AddressGiven || *a.VMName != "web1" || *a.AccountName != "demo" || a.NetworkName != "back" {
		t.Fatalf("the address is %+v", a)
	}
	x.on(events.KindNIC, "i", events.NICLimited{InBPS: 1, OutBPS: 2})
	if n := x.rows[nicTable]["i"].(*NIC); n.InBPS != 1 || n.OutBPS != 2 {
		t.Fatalf("the NIC is %+v", n)
	}
	x.on(events.KindNIC, "i", events.NICDeleted{})
	counts(1, 0, 0, 0, 0)
	x.on(events.KindSubnet, "s", events.SubnetDeleted{}).on(events.KindNetwork, "n", events.NetworkDeleted{})
	if len(x.rows[networkTable])+len(x.rows[subnetTable])+len(x.rows[nicTable]) != 0 {
		t.Fatalf("what was deleted has rows: %+v", x.rows)
	}
}
