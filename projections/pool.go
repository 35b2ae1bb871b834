package projections

import (
	"time"

	"cloudengine/events"
)

// Pool is a row of pools: storage of one fabric with one redundancy.
type Pool struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Fabric     string    `json:"fabric"`
	FabricName string    `json:"fabric_name"`
	Redundancy int       `json:"redundancy"`
	ExtentMiB  int       `json:"extent_mib"`
	Arrays     int       `json:"arrays"`
	SizeMiB    int64     `json:"size_mib"`
	FreeMiB    int64     `json:"free_mib"`
	CheckHours int       `json:"check_every_hours"`
	CreatedAt  time.Time `json:"created_at"`
	ChangedBy  uint64    `json:"changed_by"`
	ChangedAt  time.Time `json:"changed_at"`
}

var poolTable = newTable[Pool]("pools")

var pools = &Model{
	Kind: events.KindPool, Table: poolTable, Scope: ScopeNone, Named: "name", event: poolEvent,
	Reads: []string{"pool.created.v1", "pool.deleted.v1", "pool.check_every_set.v1", "array.created.v1", "array.deleted.v1", "volume.created.v1", "volume.golden_created.v1", "volume.grown.v1", "volume.wiped.v1"},
}

func poolEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.PoolCreated:
		fabric, err := need[Fabric](f, fabricTable, string(d.Fabric))
		if err != nil {
			return err
		}
		f.put(poolTable, id, &Pool{ID: id, Name: d.Name, Fabric: string(d.Fabric), FabricName: fabric.Name, Redundancy: d.Redundancy, ExtentMiB: d.ExtentMiB, CheckHours: events.CheckEveryDefaultHours, CreatedAt: f.now()})
	case events.PoolCheckEverySet:
		return change(f, poolTable, id, func(p *Pool) { p.CheckHours = d.Hours })
	case events.PoolDeleted:
		f.delete(poolTable, id)
	case events.ArrayCreated:
		return change(f, poolTable, string(d.Pool), func(p *Pool) {
			mib := int64(d.Extents * p.ExtentMiB)
			p.Arrays, p.SizeMiB, p.FreeMiB = p.Arrays+1, p.SizeMiB+mib, p.FreeMiB+mib
		})
	case events.ArrayDeleted:
		a, err := need[Array](f, arrayTable, id)
		if err != nil {
			return err
		}
		return change(f, poolTable, a.Pool, func(p *Pool) {
			p.Arrays, p.SizeMiB, p.FreeMiB = p.Arrays-1, p.SizeMiB-a.SizeMiB, p.FreeMiB-a.FreeMiB
		})
	}
	return volumeTakes(f, e, func(v *Volume, extents int) error {
		return change(f, poolTable, v.Pool, func(p *Pool) { p.FreeMiB -= int64(extents * p.ExtentMiB) })
	})
}
