package host

import (
	"context"

	"cloudengine/events"
)

// Inspection is what the toolstack and xenstore say now.
type Inspection struct {
	Domains []events.DomainReport // every domain but dom0, with its stamp
	Stamps  []events.StampReport  // all, also those whose domain is gone
}

// Inspect asks the toolstack and xenstore now, and gives what they say as it is. It changes nothing, and knows nothing of what is wanted.
func (w *Worker) Inspect(ctx context.Context) (Inspection, error) {
	seen, err := w.Observe(ctx)
	if err != nil {
		return Inspection{}, err
	}
	out := Inspection{Domains: make([]events.DomainReport, 0, len(seen.Domains)), Stamps: make([]events.StampReport, 0, len(seen.Stamps))}
	for _, d := range seen.Domains {
		out.Domains = append(out.Domains, reportOf(d, seen))
	}
	for _, s := range seen.Stamps {
		out.Stamps = append(out.Stamps, events.StampReport{DomID: s.DomID, UUID: s.UUID, VM: s.VM, Epoch: s.Epoch, Boot: s.Boot, Restarts: s.Restarts, How: s.How})
	}
	return out, nil
}
