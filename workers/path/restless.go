package path

import (
	"cloudengine/events/desired"
)

// Restless says that something is not as it should be: what becomes better by itself, as a session does, nothing tells of.
func (w *Worker) Restless(docs []desired.Document, seen Observed) bool {
	for _, s := range seen.Sessions {
		if !s.Live {
			return true
		}
	}
	for _, l := range seen.LUNs {
		if l.State != "running" {
			return true
		}
	}
	for id, a := range read(docs).arrays {
		dev, there := seen.device(MapUUID(id))
		if a.wanted() != there || there && (dev.usable() == 0 || len(dev.Paths) < len(a.targets)) {
			return true
		}
	}
	return false
}
