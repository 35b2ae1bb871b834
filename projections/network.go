package projections

import (
	"time"

	"cloudengine/events"
)

// Network is a row of networks: an internal network of an account.
type Network struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Account     string    `json:"account"`
	AccountName *string   `json:"account_name"`
	Fabric      string    `json:"fabric"`
	FabricName  string    `json:"fabric_name"`
	VNI         int       `json:"vni"`
	MTU         int       `json:"mtu"`
	Subnets     int       `json:"subnets"`
	NICs        int       `json:"nics"`
	CreatedAt   time.Time `json:"created_at"`
	ChangedBy   uint64    `json:"changed_by"`
	ChangedAt   time.Time `json:"changed_at"`
}

var networkTable = newTable[Network]("networks")

var networks = &Model{
	Kind: events.KindNetwork, Table: networkTable, Scope: ScopeOwn, Named: "name", event: networkEvent,
	Reads:   []string{"network.created.v1", "network.deleted.v1", "subnet.created.v1", "subnet.deleted.v1", "nic.created.v1", "nic.deleted.v1"},
	Private: []string{"fabric", "fabric_name"},
}

// networkEvent comes before the models of subnets and NICs: it reads a row that they delete.
func networkEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.NetworkCreated:
		return networkCreated(f, id, d)
	case events.NetworkDeleted:
		f.delete(networkTable, id)
	case events.SubnetCreated:
		return change(f, networkTable, string(d.Network), func(n *Network) { n.Subnets++ })
	case events.SubnetDeleted:
		s, err := need[Subnet](f, subnetTable, id)
		if err != nil {
			return err
		}
		return change(f, networkTable, s.Network, func(n *Network) { n.Subnets-- })
	case events.NICCreated:
		return change(f, networkTable, string(d.Network), func(n *Network) { n.NICs++ })
	case events.NICDeleted:
		nic, err := need[NIC](f, nicTable, id)
		if err != nil {
			return err
		}
		return change(f, networkTable, nic.Network, func(n *Network) { n.NICs-- })
	}
	return nil
}

func networkCreated(f *fold, id string, d events.NetworkCreated) error {
	fabric, err := need[Fabric](f, fabricTable, string(d.Fabric))
	if err != nil {
		return err
	}
	account, err := accountNameOf(f, d.Account)
	if err != nil {
		return err
	}
	f.put(networkTable, id, &Network{
		ID: id, Name: d.Name, Account: string(d.Account), AccountName: account, Fabric: fabric.ID, FabricName: fabric.Name, VNI: d.VNI, MTU: d.MTU, CreatedAt: f.now(),
	})
	return nil
}

// accountNameOf gives the name of an account, or nil if it is not known any more.
func accountNameOf(f *fold, id events.AccountID) (*string, error) {
	a, err := lookup[Account](f, accountTable, string(id))
	if err != nil || a == nil {
		return nil, err
	}
	return &a.Name, nil
}

// Subnet is a row of subnets: addresses of a network.
type Subnet struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Account     string    `json:"account"`
	AccountName *string   `json:"account_name"`
	Network     string    `json:"network"`
	NetworkName string    `json:"network_name"`
	CIDR        string    `json:"cidr"`
	First       string    `json:"first_address"`
	Last        string    `json:"last_address"`
	Server      string    `json:"server_address"`
	Given       int       `json:"given"`
	Reserved    int       `json:"reserved"`
	CreatedAt   time.Time `json:"created_at"`
	ChangedBy   uint64    `json:"changed_by"`
	ChangedAt   time.Time `json:"changed_at"`
}

var subnetTable = newTable[Subnet]("subnets")

var subnets = &Model{
	Kind: events.KindSubnet, Table: subnetTable, Scope: ScopeOwn, Named: "name", event: subnetEvent,
	Reads: []string{"subnet.created.v1", "subnet.deleted.v1", "subnet.address_reserved.v1", "subnet.address_released.v1", "nic.created.v1", "nic.deleted.v1"},
}

// subnetEvent comes before the model of addresses: it reads rows that that one changes.
func subnetEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.SubnetCreated:
		n, err := need[Network](f, networkTable, string(d.Network))
		if err != nil {
			return err
		}
		f.put(subnetTable, id, &Subnet{
			ID: id, Name: d.Name, Account: string(d.Account), AccountName: n.AccountName, Network: n.ID, NetworkName: n.Name, CIDR: d.CIDR,
			First: d.First, Last: d.Last, Server: d.Server, CreatedAt: f.now(),
		})
	case events.SubnetDeleted:
		f.delete(subnetTable, id)
	case events.SubnetAddressReserved:
		return change(f, subnetTable, id, func(s *Subnet) { s.Reserved++ })
	case events.SubnetAddressReleased:
		return change(f, subnetTable, id, func(s *Subnet) { s.Reserved-- })
	case events.NICCreated:
		return subnetsGive(f, d)
	case events.NICDeleted:
		return eachAddress(f, id, func(x NICAddress) error {
			return change(f, subnetTable, x.Subnet, func(s *Subnet) { s.Given-- })
		})
	}
	return nil
}

// subnetsGive counts the addresses of a new NIC. One that was reserved is not any more.
func subnetsGive(f *fold, d events.NICCreated) error {
	for _, x := range d.Addresses {
		was, err := lookup[Address](f, addressTable, addressID(string(x.Subnet), x.Address))
		if err != nil {
			return err
		}
		err = change(f, subnetTable, string(x.Subnet), func(s *Subnet) {
			if s.Given++; was != nil {
				s.Reserved--
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}
