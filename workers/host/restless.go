package host

import (
	"slices"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Restless says that a guest was asked to shut down, which is asked again after a while, or that a domain has a device model, of whose end
// nothing tells, or is being taken apart: xenstore has forgotten it by then. What else happens to domains xenstore tells of.
func (w *Worker) Restless(_ []desired.Document, seen Observed) bool {
	for _, s := range seen.Stamps {
		if !s.Asked.IsZero() {
			return true
		}
	}
	dying := func(d Domain) bool { return d.State == events.DomainDying }
	return len(seen.Models) > 0 || slices.ContainsFunc(seen.Domains, dying)
}
