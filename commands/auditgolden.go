package commands

import "cloudengine/events"

// auditGoldens is what Audit knows of golden volumes: a volume is copied from one of its own array and image, which is not deleted before the
// copy is ready or given up, and which no VM ever has.
type auditGoldens struct {
	made    map[string]events.GoldenCreated // golden volumes that are not deleted
	copying map[string]string               // volume → golden volume that it is being copied from
}

func newAuditGoldens() auditGoldens {
	return auditGoldens{made: map[string]events.GoldenCreated{}, copying: map[string]string{}}
}

func (a *Audit) goldenEvent(r events.Recorded, e events.Event) {
	g, id := &a.storage.goldens, e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.GoldenCreated:
		g.made[id] = d
	case events.VolumeCreated:
		if d.From == "" {
			return
		}
		if from, ok := g.made[string(d.From)]; !ok || from.Array != d.Array || from.Source != d.Source || from.SourceBytes != d.SourceBytes {
			a.fail(r, "I3", "volume %s is to be copied from %s, which is no golden volume of its array with its image", id, d.From)
		}
		g.copying[id] = string(d.From)
	case events.VolumeAttached, events.VolumeGrown:
		if _, golden := g.made[id]; golden {
			a.fail(r, "I9", "golden volume %s is changed, or given to a VM", id)
		}
	case events.VolumeReady:
		delete(g.copying, id)
	case events.VolumeDeleted:
		delete(g.copying, id)
		if _, golden := g.made[id]; golden {
			for v, from := range g.copying {
				if from == id {
					a.fail(r, "I3", "golden volume %s is deleted while volume %s is copied from it", id, v)
				}
			}
			delete(g.made, id)
		}
	}
}
