package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cloudengine/events"
)

const recordSuffix = ".json"

// readRecords reads what was remembered in this boot.
func readRecords(dir string) (map[events.DiskID]Record, error) {
	out := map[events.DiskID]Record{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list records of exports: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue // cut off while it was written
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read record of export %s: %w", id, err)
		}
		var r Record
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("read record of export %s: %w", id, err)
		}
		out[events.DiskID(id)] = r
	}
	return out, nil
}

// writeRecord remembers whole records only: the directory is in memory, so that a kill of this program is all that can come between.
func writeRecord(dir string, id events.DiskID, r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write record of export %s: %w", id, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write record of export %s: %w", id, err)
	}
	name := filepath.Join(dir, string(id))
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		return fmt.Errorf("write record of export %s: %w", id, err)
	}
	if err := os.Rename(name+".new", name+recordSuffix); err != nil {
		return fmt.Errorf("write record of export %s: %w", id, err)
	}
	return nil
}
