package projections

import (
	"time"

	"cloudengine/events"
)

// Fabric is a row of fabrics: a storage network.
type Fabric struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Transport string    `json:"transport"`
	Subnet    string    `json:"subnet"`
	MTU       int       `json:"mtu"`
	Members   int       `json:"members"`
	CreatedAt time.Time `json:"created_at"`
	ChangedBy uint64    `json:"changed_by"`
	ChangedAt time.Time `json:"changed_at"`
}

var fabricTable = newTable[Fabric]("fabrics")

var fabrics = &Model{
	Kind: events.KindFabric, Table: fabricTable, Scope: ScopeNone, Named: "name", event: fabricEvent,
	Reads: []string{"fabric.created.v1", "fabric.deleted.v1", "fabric.joined.v1", "fabric.left.v1"},
}

func fabricEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.FabricCreated:
		f.put(fabricTable, id, &Fabric{ID: id, Name: d.Name, Transport: d.Transport, Subnet: d.Subnet, MTU: d.MTU, CreatedAt: f.now()})
	case events.FabricDeleted:
		f.delete(fabricTable, id)
	case events.FabricJoined:
		return change(f, fabricTable, id, func(x *Fabric) { x.Members++ })
	case events.FabricLeft:
		return change(f, fabricTable, id, func(x *Fabric) { x.Members-- })
	}
	return nil
}

// Member is a row of fabric_members: a machine on a storage network.
type Member struct {
	ID          string    `json:"id"`
	Fabric      string    `json:"fabric"`
	FabricName  string    `json:"fabric_name"`
	Machine     string    `json:"machine"`
	MachineName *string   `json:"machine_name"`
	MAC         string    `json:"mac"`
	Address     string    `json:"address"`
	ChangedBy   uint64    `json:"changed_by"`
	ChangedAt   time.Time `json:"changed_at"`
}

// KindMember is the kind of the rows of fabric_members, which are no aggregates.
const KindMember events.Kind = "member"

var memberTable = newTable[Member]("fabric_members")

var members = &Model{
	Kind: KindMember, Table: memberTable, Scope: ScopeNone, event: memberEvent,
	Reads: []string{"fabric.joined.v1", "fabric.left.v1"},
}

func memberID(fabric string, m events.MachineID) string { return fabric + "." + string(m) }

func memberEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.FabricJoined:
		fabric, err := need[Fabric](f, fabricTable, id)
		if err != nil {
			return err
		}
		name, err := machineNameOf(f, d.Machine)
		if err != nil {
			return err
		}
		row := memberID(id, d.Machine)
		f.put(memberTable, row, &Member{ID: row, Fabric: id, FabricName: fabric.Name, Machine: string(d.Machine), MachineName: name, MAC: d.MAC, Address: d.Address})
	case events.FabricLeft:
		f.delete(memberTable, memberID(id, d.Machine))
	}
	return nil
}

// machineNameOf gives the name of a machine, or nil if it is not known any more.
func machineNameOf(f *fold, id events.MachineID) (*string, error) {
	m, err := lookup[Machine](f, machineTable, string(id))
	if err != nil || m == nil {
		return nil, err
	}
	return &m.Name, nil
}
