package host

import (
	"context"

	"cloudengine/events"
)

// Inspect asks the toolstack and xenstore now, and gives every domain but dom0 as it is, with its stamp. It changes nothing, and knows
// nothing of what is wanted.
func (w *Worker) Inspect(ctx context.Context) ([]events.DomainReport, error) {
	seen, err := w.Observe(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]events.DomainReport, 0, len(seen.Domains))
	for _, d := range seen.Domains {
		out = append(out, reportOf(d, seen))
	}
	return out, nil
}
