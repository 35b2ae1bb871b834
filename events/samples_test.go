package events

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestSamplesDecodeForEver holds what was ever published against the decoders. A sample <wire name>[.<case>].json is the data of one event,
// as some version of this program stored it. Samples are added, never changed: a log holds the same bytes, and cannot be changed either.
func TestSamplesDecodeForEver(t *testing.T) {
	const what = `
A field that a published version has cannot go, change its type or be renamed: stored logs hold it. Leave the type as it is, make
a new one with the next version, and upcast to it. Never change a sample.`
	paths, err := filepath.Glob("testdata/samples/*.json")
	if err != nil {
		t.Fatal(err)
	}
	sampled := map[string]bool{}
	for _, path := range paths {
		parts := strings.Split(strings.TrimSuffix(filepath.Base(path), ".json"), ".")
		name := strings.Join(parts[:min(3, len(parts))], ".")
		sampled[name] = true
		t.Run(strings.Join(parts, "."), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			p, err := decodePayload(name, raw)
			if err != nil {
				t.Fatalf("%v%s", err, what)
			}
			if _, unknown := p.(Unknown); unknown {
				t.Fatalf("%s was published and is not known any more: put it back into names.go", name)
			}
			back, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if p.EventType() != name {
				return // an older version: it is read as the highest
			}
			if got, want := tree(t, back), tree(t, raw); !reflect.DeepEqual(got, want) {
				t.Fatalf("stored:  %v\nencoded: %v%s", want, got, what)
			}
		})
	}
	for _, name := range append(Names(), OldNames()...) {
		if !sampled[name] {
			t.Errorf("%s has no sample: write testdata/samples/%s.json, with every field in this or further samples (%s.<case>.json)", name, name, name)
		}
	}
}

func tree(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
