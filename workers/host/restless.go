package host

import (
	"cloudengine/events/desired"
)

// Restless says that a guest was asked to shut down, which is asked again after a while, or that a domain has a device model, of whose end
// nothing tells. What else happens to domains xenstore tells of.
func (w *Worker) Restless(_ []desired.Document, seen Observed) bool {
	for _, s := range seen.Stamps {
		if !s.Asked.IsZero() {
			return true
		}
	}
	return len(seen.Models) > 0
}
