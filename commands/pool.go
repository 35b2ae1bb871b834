package commands

import (
	"cloudengine/events"
)

// Pool is storage of one fabric, with one redundancy.
type Pool struct {
	ID     events.PoolID
	Data   events.PoolCreated
	arrays int

	checkHours int // its arrays are checked so long after the last check; 0: not by itself
}

// Limits and defaults of pools.
const (
	defaultRedundancy = 2
	maxRedundancy     = 4
	defaultExtentMiB  = 4
)

// CreatePool makes a pool without disks.
type CreatePool struct {
	Name       string          `json:"name"`
	Fabric     events.FabricID `json:"fabric"`
	Redundancy int             `json:"redundancy,omitempty"`
	ExtentMiB  int             `json:"extent_mib,omitempty"`
}

func (a CreatePool) check() *Rejection {
	switch {
	case a.Redundancy < 0 || a.Redundancy > maxRedundancy:
		return invalid("field \"redundancy\": want 2 to %d copies, or 0 for %d", maxRedundancy, defaultRedundancy)
	case a.ExtentMiB < 0 || a.ExtentMiB > 1024:
		return invalid("field \"extent_mib\": want a power of two to 1024, or 0 for %d", defaultExtentMiB)
	}
	return first(checkName("name", a.Name), checkID("fabric", string(a.Fabric)))
}

func decideCreatePool(d *decision, a CreatePool) error {
	f, err := d.fabric(a.Fabric)
	if err != nil {
		return err
	}
	if err := d.freeName(events.KindPool, "", a.Name); err != nil {
		return err
	}
	if f.Data.Transport == events.TransportVXLAN {
		return reject(events.CodeConflict, "fabric %q carries networks: nothing is stored over it", f.Data.Name)
	}
	if a.Redundancy == 0 {
		a.Redundancy = defaultRedundancy
	}
	if a.ExtentMiB == 0 {
		a.ExtentMiB = defaultExtentMiB
	}
	if a.Redundancy == 1 || a.ExtentMiB&(a.ExtentMiB-1) != 0 {
		return reject(events.CodeConflict, "want at least 2 copies, and extents of a power of two MiB")
	}
	if n := d.s.storageNodes(f); n < a.Redundancy {
		return reject(events.CodeConflict, "%d copies need as many storage nodes, and fabric %q has %d", a.Redundancy, f.Data.Name, n)
	}
	d.add(events.KindPool, d.newID(), events.PoolCreated(a))
	return nil
}

// storageNodes counts those of a fabric.
func (s *State) storageNodes(f *Fabric) int {
	n := 0
	for id := range f.members {
		if m, ok := s.machines[id]; ok && contains(m.Data.Roles, events.RoleStorageNode) {
			n++
		}
	}
	return n
}

// PoolRef names a pool.
type PoolRef struct {
	Pool events.PoolID `json:"pool"`
}

func (a PoolRef) check() *Rejection { return checkID("pool", string(a.Pool)) }

func (d *decision) pool(id events.PoolID) (*Pool, error) {
	p, ok := d.s.storage.pools[id]
	if !ok {
		return nil, reject(events.CodeNotFound, "there is no pool %s", id)
	}
	return p, nil
}

func decideDeletePool(d *decision, a PoolRef) error {
	p, err := d.pool(a.Pool)
	if err != nil {
		return err
	}
	if p.arrays > 0 {
		return reject(events.CodeConflict, "pool %q has %d arrays: delete them first", p.Data.Name, p.arrays)
	}
	if err := d.expect(events.KindPool, p.Data.Name); err != nil {
		return err
	}
	d.add(events.KindPool, string(p.ID), events.PoolDeleted{})
	return nil
}

func (s *State) foldPool(e events.Event) {
	id := events.PoolID(e.Aggregate.ID)
	switch data := e.Data.(type) {
	case events.PoolCreated:
		s.storage.pools[id] = &Pool{ID: id, Data: data, checkHours: events.CheckEveryDefaultHours}
		s.names[scope(events.KindPool, "", data.Name)] = e.Aggregate.ID
		if f, ok := s.storage.fabrics[data.Fabric]; ok {
			f.pools++
		}
	case events.PoolCheckEverySet:
		if p, ok := s.storage.pools[id]; ok {
			s.foldCheckEvery(p, data)
		}
	case events.PoolDeleted:
		if p, ok := s.storage.pools[id]; ok {
			delete(s.names, scope(events.KindPool, "", p.Data.Name))
			delete(s.storage.pools, id)
			if f, ok := s.storage.fabrics[p.Data.Fabric]; ok {
				f.pools--
			}
		}
	}
}
