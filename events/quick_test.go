package events

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// blocksOfSamples gives a block for each sample of an event.
func blocksOfSamples(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/samples/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	var out []string
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Join(strings.Split(filepath.Base(path), ".")[:3], ".")
		out = append(out, fmt.Sprintf(`{"format":1,"term":1,"first":3,"time":"2026-01-02T03:04:05.6Z","prev":"ab","decisions":[{"intent":"i","actor":"ann","kind":"vm","verb":"start",
"args":{"a": [1.5e3,-0,null,true,"\u00e4\n"]},"expect":{"name":"n"},"override":["x","y"],"cause":"7","correlation":"c","reason":"wörds \"so\"",
"outcome":{"status":"accepted","code":"c","guard":"g","message":"m"},"events":[{"aggregate":"vm/1","version":4,"type":%q,"data":%s}]}]}`, name, raw))
	}
	return out
}

// TestQuickReadingIsUsed holds that what we write is read quickly, and as encoding/json reads it.
func TestQuickReadingIsUsed(t *testing.T) {
	for _, payload := range blocksOfSamples(t) {
		quick, err := quickBlock([]byte(payload))
		if err != nil {
			t.Errorf("%v: %s", err, payload)
			continue
		}
		slow := &Block{}
		if err := json.Unmarshal([]byte(payload), slow); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(quick, slow) {
			t.Errorf("read quickly: %+v\nby encoding/json: %+v", quick, slow)
		}
	}
}

// FuzzQuickBlock: whatever is read quickly, encoding/json reads in the same way.
func FuzzQuickBlock(f *testing.F) {
	for _, payload := range blocksOfSamples(f) {
		f.Add([]byte(payload))
	}
	for _, odd := range []string{
		`{"format":1,"term":1,"first":1,"time":"2026-01-01T00:00:00Z","prev":"","x":[{"a":1}],"decisions":[{"intent":"a","outcome":{},"events":[{"type":"vm.deleted.v1","aggregate":"a/b","version":1,"data":{}}]}]}`,
		`{"format":1,"decisions":[{"args":null,"events":[{"aggregate":"vm/1","version":18446744073709551615,"type":"vm.unheard.v9","data":[1 ,2]}]}]}`,
		`{"format":1,"decisions":[{"events":[{"aggregate":"vm/1","version":1,"type":"vm.run_wanted.v1","data":{"Want":"x","want":"y","new":{"a":[]}}}]}]}`,
		`{"format":1,"decisions":[{"reason":"` + "\xff" + `","events":null}]}`,
		`{"format":1e0,"decisions":[{"intent":null}],"prev":"\u0041"}`,
	} {
		f.Add([]byte(odd))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		quick, err := quickBlock(payload)
		if err != nil {
			return
		}
		slow := &Block{}
		if err := json.Unmarshal(payload, slow); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if !reflect.DeepEqual(quick, slow) {
			t.Fatalf("read quickly: %+v\nby encoding/json: %+v", quick, slow)
		}
	})
}

// BenchmarkDecodeBlock reads one block of every sample.
func BenchmarkDecodeBlock(b *testing.B) {
	all := blocksOfSamples(b)
	for name, read := range map[string]func([]byte) error{
		"quick": func(p []byte) error { _, err := DecodeBlock(p); return err },
		"json":  func(p []byte) error { return json.Unmarshal(p, &Block{}) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range all {
					if err := read([]byte(p)); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(all)), "ns/block")
		})
	}
}
