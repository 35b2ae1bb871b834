package projections

import (
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/events"
)

// NIC is a row of nics: a network interface of a VM.
type NIC struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Account     string          `json:"account"`
	AccountName *string         `json:"account_name"`
	VM          string          `json:"vm"`
	VMName      string          `json:"vm_name"`
	Slot        string          `json:"slot"`
	Network     string          `json:"network"`
	NetworkName string          `json:"network_name"`
	MAC         string          `json:"mac"`
	Addresses   json.RawMessage `json:"addresses"`
	InBPS       int64           `json:"in_bps"`
	OutBPS      int64           `json:"out_bps"`
	CreatedAt   time.Time       `json:"created_at"`
	ChangedBy   uint64          `json:"changed_by"`
	ChangedAt   time.Time       `json:"changed_at"`
}

// NICAddress is an entry of NIC.Addresses.
type NICAddress struct {
	Subnet  string `json:"subnet"`
	Address string `json:"address"`
}

var nicTable = newTable[NIC]("nics")

var nics = &Model{
	Kind: events.KindNIC, Table: nicTable, Scope: ScopeOwn, Named: "name", event: nicEvent,
	Reads: []string{"nic.created.v1", "nic.limited.v1", "nic.deleted.v1"},
}

func nicEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.NICCreated:
		n, err := need[Network](f, networkTable, string(d.Network))
		if err != nil {
			return err
		}
		vm, err := need[VM](f, vmTable, string(d.VM))
		if err != nil {
			return err
		}
		f.put(nicTable, id, &NIC{
			ID: id, Name: d.Name, Account: string(d.Account), AccountName: n.AccountName, VM: vm.ID, VMName: vm.Name, Slot: d.Slot, Network: n.ID, NetworkName: n.Name,
			MAC: d.MAC, Addresses: asJSON(d.Addresses), CreatedAt: f.now(),
		})
	case events.NICLimited:
		return change(f, nicTable, id, func(n *NIC) { n.InBPS, n.OutBPS = d.InBPS, d.OutBPS })
	case events.NICDeleted:
		f.delete(nicTable, id)
	}
	return nil
}

// eachAddress goes through the addresses of a NIC whose row is there still.
func eachAddress(f *fold, nic string, do func(NICAddress) error) error {
	row, err := need[NIC](f, nicTable, nic)
	if err != nil {
		return err
	}
	var all []NICAddress
	if err := json.Unmarshal(row.Addresses, &all); err != nil {
		return fmt.Errorf("read addresses of NIC %s: %w", nic, err)
	}
	for _, x := range all {
		if err := do(x); err != nil {
			return err
		}
	}
	return nil
}

// States of an address.
const (
	AddressGiven    = "given"
	AddressReserved = "reserved" // it is given only when it is asked for by name
)

// Address is a row of addresses: one that is not free.
type Address struct {
	ID          string    `json:"id"`
	Address     string    `json:"address"`
	Account     string    `json:"account"`
	AccountName *string   `json:"account_name"`
	Subnet      string    `json:"subnet"`
	SubnetName  string    `json:"subnet_name"`
	Network     string    `json:"network"`
	NetworkName string    `json:"network_name"`
	State       string    `json:"state"`
	NIC         *string   `json:"nic"`
	VM          *string   `json:"vm"`
	VMName      *string   `json:"vm_name"`
	MAC         *string   `json:"mac"`
	Since       time.Time `json:"since"`
	ChangedBy   uint64    `json:"changed_by"`
	ChangedAt   time.Time `json:"changed_at"`
}

// KindAddress is the kind of the rows of addresses, which are no aggregates.
const KindAddress events.Kind = "address"

var addressTable = newTable[Address]("addresses")

var addresses = &Model{
	Kind: KindAddress, Table: addressTable, Scope: ScopeOwn, event: addressEvent,
	Reads: []string{"subnet.address_reserved.v1", "subnet.address_released.v1", "nic.created.v1", "nic.deleted.v1"},
}

func addressID(subnet, address string) string { return subnet + "." + address }

// addressEvent comes before the model of NICs: it reads a row that that one deletes.
func addressEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.SubnetAddressReserved:
		return putAddress(f, id, &Address{Address: d.Address, State: AddressReserved})
	case events.SubnetAddressReleased:
		f.delete(addressTable, addressID(id, d.Address))
	case events.NICCreated:
		vm, err := need[VM](f, vmTable, string(d.VM))
		if err != nil {
			return err
		}
		for _, x := range d.Addresses {
			row := &Address{Address: x.Address, State: AddressGiven, NIC: known(id), VM: known(vm.ID), VMName: known(vm.Name), MAC: known(d.MAC)}
			if err := putAddress(f, string(x.Subnet), row); err != nil {
				return err
			}
		}
	case events.NICDeleted:
		return eachAddress(f, id, func(x NICAddress) error {
			f.delete(addressTable, addressID(x.Subnet, x.Address))
			return nil
		})
	}
	return nil
}

func putAddress(f *fold, subnet string, row *Address) error {
	s, err := need[Subnet](f, subnetTable, subnet)
	if err != nil {
		return err
	}
	row.ID, row.Since = addressID(subnet, row.Address), f.now()
	row.Account, row.AccountName = s.Account, s.AccountName
	row.Subnet, row.SubnetName, row.Network, row.NetworkName = s.ID, s.Name, s.Network, s.NetworkName
	f.put(addressTable, row.ID, row)
	return nil
}
