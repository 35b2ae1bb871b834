package mysql

import (
	"context"
	"database/sql"
	"maps"

	"cloudengine/projections"
)

// maxCached bounds the rows that are kept in memory; a row takes about 1 KiB.
const maxCached = 50_000

// cache holds rows as they are in the database. It is right because nobody else writes them: the checkpoint's guard sees to that.
type cache struct {
	db       *sql.DB
	writers  map[*projections.Table]*writer
	rows     map[*projections.Table]map[string]any
	complete map[*projections.Table]bool // all rows of the table are here, and stay: it was asked for as a whole
	count    int
}

func newCache(db *sql.DB, g generation) *cache {
	c := &cache{db: db, writers: map[*projections.Table]*writer{}, rows: map[*projections.Table]map[string]any{}, complete: map[*projections.Table]bool{}}
	for _, m := range projections.Models() {
		c.writers[m.Table] = newWriter(m.Table, g)
		c.rows[m.Table] = map[string]any{}
	}
	return c
}

// whole reads all rows of a table, unless they are here.
func (c *cache) whole(ctx context.Context, t *projections.Table) error {
	if c.complete[t] {
		return nil
	}
	if err := c.writers[t].read(ctx, c.db, nil, func(id string, row any) { c.set(t, id, row) }); err != nil {
		return err
	}
	c.complete[t] = true
	return nil
}

// keep takes over what a transaction has committed. Nobody may read the cache meanwhile.
func (c *cache) keep(s *stage) {
	for t, rows := range s.dirty {
		for id, row := range rows {
			c.set(t, id, row)
		}
	}
	for t, rows := range s.loaded {
		for id, row := range rows {
			if _, written := s.dirty[t][id]; !written && row != nil {
				c.set(t, id, row)
			}
		}
	}
	c.trim()
}

func (c *cache) set(t *projections.Table, id string, row any) {
	_, had := c.rows[t][id]
	switch {
	case row == nil && had:
		delete(c.rows[t], id)
		c.count--
	case row != nil:
		c.rows[t][id] = row
		if !had {
			c.count++
		}
	}
}

// trim forgets some rows, whichever come first, when there are too many.
func (c *cache) trim() {
	if c.count <= maxCached {
		return
	}
	for t, rows := range c.rows {
		if c.complete[t] {
			continue
		}
		for id := range rows {
			if c.count <= maxCached/2 {
				return
			}
			c.set(t, id, nil)
		}
	}
}

// stage is the Store of one transaction: its own writes, over what it read, over the cache.
type stage struct {
	ctx    context.Context // of the one call that the stage lives in: projections.Store knows no contexts
	cache  *cache
	dirty  map[*projections.Table]map[string]any // nil: deleted
	loaded map[*projections.Table]map[string]any // nil: there is none
	under  *stage                                // whose writes are not committed yet either
}

func newStage(ctx context.Context, c *cache, under *stage) *stage {
	return &stage{ctx, c, map[*projections.Table]map[string]any{}, map[*projections.Table]map[string]any{}, under}
}

// find looks for a row without asking the database.
func (s *stage) find(t *projections.Table, id string) (row any, found bool) {
	for at := s; at != nil; at = at.under {
		if row, found = at.dirty[t][id]; found {
			return row, true
		}
		if row, found = at.loaded[t][id]; found {
			return row, true
		}
	}
	row, found = s.cache.rows[t][id]
	return row, found || s.cache.complete[t]
}

// Get gives a row. Those that were not preloaded are read one by one.
func (s *stage) Get(t *projections.Table, id string) (any, error) {
	if row, found := s.find(t, id); found {
		return row, nil
	}
	if err := s.load(t, []any{id}); err != nil {
		return nil, err
	}
	return s.loaded[t][id], nil
}

// All gives all rows of a table.
func (s *stage) All(t *projections.Table) ([]any, error) {
	if err := s.cache.whole(s.ctx, t); err != nil {
		return nil, err
	}
	all := maps.Clone(s.cache.rows[t])
	var layers []*stage
	for at := s; at != nil; at = at.under {
		layers = append(layers, at)
	}
	for i := len(layers) - 1; i >= 0; i-- {
		for id, row := range layers[i].dirty[t] {
			all[id] = row
		}
	}
	out := make([]any, 0, len(all))
	for _, row := range all {
		if row != nil {
			out = append(out, row)
		}
	}
	return out, nil
}

// Put writes a row.
func (s *stage) Put(t *projections.Table, id string, row any) { put(s.dirty, t, id, row) }

// Delete deletes a row.
func (s *stage) Delete(t *projections.Table, id string) { put(s.dirty, t, id, nil) }

func put(m map[*projections.Table]map[string]any, t *projections.Table, id string, row any) {
	if m[t] == nil {
		m[t] = map[string]any{}
	}
	m[t][id] = row
}

// preload reads the rows that are needed and not at hand, one statement per table.
func (s *stage) preload(needs []projections.RowID) error {
	missing := map[*projections.Table][]any{}
	asked := map[projections.RowID]bool{}
	for _, n := range needs {
		if _, found := s.find(n.Table, n.ID); !found && !asked[n] {
			asked[n] = true
			missing[n.Table] = append(missing[n.Table], n.ID)
		}
	}
	for t, ids := range missing {
		if err := s.load(t, ids); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) load(t *projections.Table, ids []any) error {
	for _, id := range ids {
		put(s.loaded, t, id.(string), nil)
	}
	return s.cache.writers[t].read(s.ctx, s.cache.db, ids, func(id string, row any) { s.loaded[t][id] = row })
}

// statements gives what brings everything that was written into the database.
func (s *stage) statements() []statement {
	var out []statement
	for _, m := range projections.Models() {
		if rows := s.dirty[m.Table]; len(rows) > 0 {
			out = s.cache.writers[m.Table].statements(out, rows)
		}
	}
	return out
}
