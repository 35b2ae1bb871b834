package mysql

import (
	"context"
	"fmt"

	"cloudengine/projections"
	"cloudengine/projections/verify"
)

// Compare holds everything in the snapshot against what the log says: how the tables are made, every row of every read model, and what is
// parked. m must be at the decision of the snapshot's checkpoint. A table that cannot be read is a finding; the error is the database's.
func (s *Snapshot) Compare(ctx context.Context, m *projections.Memory, out *verify.List) (checked int, err error) {
	want, err := WantedShapes()
	if err != nil {
		return 0, err
	}
	have, err := s.Shapes(ctx)
	if err != nil {
		return 0, err
	}
	shapes := verify.CompareShapes(want, have)
	out.Add(shapes...)
	unreadable := map[string]bool{}
	for _, f := range shapes {
		if f.Check == "table_missing" || f.Check == "column_missing" {
			unreadable[f.ID] = true
		}
	}
	for _, model := range projections.Models() {
		if err := ctx.Err(); err != nil {
			return checked, fmt.Errorf("compare rows: %w", err)
		}
		t := model.Table
		if unreadable[t.Name] {
			continue
		}
		c := verify.NewTable(m, model, out)
		if err := s.Rows(ctx, t, c.Have); err != nil {
			return checked, err
		}
		c.Missing()
		checked += c.Seen()
	}
	if unreadable["parked_events"] {
		return checked, nil
	}
	parked, err := s.Parked(ctx)
	if err != nil {
		return checked, err
	}
	verify.CompareParked(m, parked, out)
	return checked + len(parked), nil
}
