// Command generate writes the JSON Schemas of all events, commands and envelopes under schemas/json, and schemas/CATALOGUE.md, from the
// Go types and their comments, and schemas/TABLES.md from the statements that make the tables. Run it by "go tool task schemas".
//
// It refuses to write a schema that breaks readers of a published one, and says what to do instead. It reads the source of this module
// and changes nothing outside of schemas.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// Where the output is, from the module's root.
const (
	jsonDir       = "schemas/json"
	cataloguePath = "schemas/CATALOGUE.md"
	tablesPath    = "schemas/TABLES.md"
)

func run() error {
	if err := enterModule(); err != nil {
		return err
	}
	files, err := generate()
	if err != nil {
		return err
	}
	old, err := checkedIn()
	if err != nil {
		return err
	}
	if broken := breaks(old, files); len(broken) > 0 {
		return errors.New(advice(broken))
	}
	return write(old, files)
}

// enterModule makes the module's root the working directory: comments are found by their packages' paths from there.
func enterModule() error {
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return os.Chdir(dir)
		}
		up := filepath.Dir(dir)
		if up == dir {
			return errors.New("find the module: there is no go.mod here or above")
		}
		dir = up
	}
}

// checkedIn reads what is there, by path.
func checkedIn() (map[string][]byte, error) {
	out := map[string][]byte{}
	paths, err := filepath.Glob(jsonDir + "/*/*.json")
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	for _, path := range append(paths, cataloguePath, tablesPath) {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("read schema: %w", err)
		}
		out[filepath.ToSlash(path)] = b
	}
	return out, nil
}

func write(old, files map[string][]byte) error {
	for path, b := range files {
		if string(old[path]) == string(b) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write schema: %w", err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return fmt.Errorf("write schema: %w", err)
		}
		fmt.Println("wrote", path)
	}
	return nil
}

// advice says what to do about broken contracts.
func advice(broken []string) string {
	return "readers of a published format would break:\n  " + strings.Join(broken, "\n  ") + `
A published version never changes its meaning, since the log is kept for ever. Instead:
  - event: leave the type as it is; make a new type with the next version in events (vm.created.v2), add it to names.go with an upcast
    from the old one, and a sample in events/testdata/samples. An added field must be optional (omitempty or omitzero).
  - command: add an optional field, or a new verb.
  - envelope: add an optional field.
If nobody has ever stored or sent it, delete its file under schemas/json (and its samples) and run "go tool task schemas" again.`
}
