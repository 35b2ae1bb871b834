package path

import (
	"context"
	"slices"

	"cloudengine/events"
)

// Mapped says what the devices of volumes are made of, by volume. It looks for itself and changes nothing.
func (w *Worker) Mapped(ctx context.Context) ([]events.MappedReport, error) {
	seen, err := w.Observe(ctx)
	if err != nil {
		return nil, err
	}
	return mapped(seen), nil
}

func mapped(seen Observed) []events.MappedReport {
	arrays := map[string]events.ArrayID{} // by the number of their map
	for _, d := range seen.Devices {
		if id, ok := arrayOf(d.UUID); ok {
			arrays[d.DevNo] = id
		}
	}
	out := []events.MappedReport{}
	for _, d := range seen.Devices {
		id, ok := volumeOf(d.UUID)
		if !ok {
			continue
		}
		r := events.MappedReport{Volume: id, Open: d.Open, Unsettled: d.Unsettled, Lines: []events.MappedLine{}}
		for _, l := range d.Table {
			devNo, from, _ := linear(l)
			r.Lines = append(r.Lines, events.MappedLine{Array: arrays[devNo], From: from, Sectors: l.Length})
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b events.MappedReport) int {
		if a.Volume < b.Volume {
			return -1
		}
		return 1
	})
	return out
}
