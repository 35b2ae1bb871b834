package events

// PoolCreated makes a pool: storage of one fabric, with one redundancy.
type PoolCreated struct {
	Name       string   `json:"name"`
	Fabric     FabricID `json:"fabric"`     // that all its disks are on
	Redundancy int      `json:"redundancy"` // copies of each extent, on as many storage nodes
	ExtentMiB  int      `json:"extent_mib"` // size of an extent
}

// EventType gives the wire name.
func (PoolCreated) EventType() string { return "pool.created.v1" }

// PoolDeleted ends a pool without arrays.
type PoolDeleted struct{}

// EventType gives the wire name.
func (PoolDeleted) EventType() string { return "pool.deleted.v1" }
