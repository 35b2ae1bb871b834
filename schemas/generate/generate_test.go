package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

// TestSchemasAreWhatTheTypesAre compares what would be generated with what is checked in.
func TestSchemasAreWhatTheTypesAre(t *testing.T) {
	t.Chdir("../..")
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	old, err := checkedIn()
	if err != nil {
		t.Fatal(err)
	}
	if broken := breaks(old, files); len(broken) > 0 {
		t.Fatal(advice(broken))
	}
	changed := []string{}
	for path, b := range files {
		if string(old[path]) != string(b) {
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	if len(changed) > 0 {
		t.Errorf("run \"go tool task schemas\" and commit what it writes: the Go types say something else than\n  %s\n"+
			"If a field's meaning has changed, do not: leave this version as it is and make the next one (v2).", strings.Join(changed, "\n  "))
	}
}

func TestGeneratingTwiceGivesTheSame(t *testing.T) {
	t.Chdir("../..")
	a, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	b, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) }) {
		t.Fatal("the same source gave two outputs")
	}
}

// Versions of one type, as they might follow each other.
type (
	inner1 struct {
		SHA256 string `json:"sha256"`
	}
	thing1 struct {
		Name  string   `json:"name"`
		Count int      `json:"count"`
		Tags  []string `json:"tags,omitempty"`
		Inner inner1   `json:"inner"`
		More  []inner1 `json:"more,omitempty"`
	}
	inner2 struct {
		SHA256 int `json:"sha256"`
	}
	added struct {
		thing1
		Extra string `json:"extra,omitempty"`
	}
	addedRequired struct {
		thing1
		Extra string `json:"extra"`
	}
	removed struct {
		Name  string   `json:"name"`
		Tags  []string `json:"tags,omitempty"`
		Inner inner1   `json:"inner"`
		More  []inner1 `json:"more,omitempty"`
	}
	retyped struct {
		Name  string   `json:"name"`
		Count string   `json:"count"`
		Tags  []int    `json:"tags,omitempty"`
		Inner inner1   `json:"inner"`
		More  []inner1 `json:"more,omitempty"`
	}
	optional struct {
		Name  string   `json:"name"`
		Count int      `json:"count,omitempty"`
		Tags  []string `json:"tags,omitempty"`
		Inner inner1   `json:"inner"`
		More  []inner1 `json:"more,omitempty"`
	}
	deep struct {
		Name  string   `json:"name"`
		Count int      `json:"count"`
		Tags  []string `json:"tags,omitempty"`
		Inner inner2   `json:"inner"`
		More  []inner2 `json:"more,omitempty"`
	}
)

func TestBreaks(t *testing.T) {
	event, command := jsonDir+"/events/thing.made.v1.json", jsonDir+"/commands/thing.make.json"
	for name, c := range map[string]struct {
		path string
		next any
		want string // of all findings, without the document's name
	}{
		"same":                     {event, thing1{}, ""},
		"optional-field-added":     {event, added{}, ""},
		"required-field-added":     {event, addedRequired{}, "field extra is required now: what was stored or sent before lacks it"},
		"field-removed":            {event, removed{}, "field count was removed"},
		"fields-retyped":           {event, retyped{}, "field count was integer and is string; field tags[] was string and is integer"},
		"field-may-be-absent":      {event, optional{}, "field count may be absent now: readers count on it"},
		"nested-field-retyped":     {event, deep{}, "field inner.sha256 was string and is integer; field more[].sha256 was string and is integer"},
		"event-gone":               {event, nil, "it is not there any more"},
		"command-field-optional":   {command, optional{}, ""},
		"command-field-removed":    {command, removed{}, "field count was removed"},
		"command-requires-another": {command, addedRequired{}, "field extra is required now: what was stored or sent before lacks it"},
	} {
		t.Run(name, func(t *testing.T) {
			next := map[string][]byte{}
			if c.next != nil {
				next[c.path] = mustEncode(t, c.next)
			}
			found := breaks(map[string][]byte{c.path: mustEncode(t, thing1{})}, next)
			got := []string{}
			for _, f := range found {
				_, text, _ := strings.Cut(f, ": ")
				got = append(got, text)
			}
			if strings.Join(got, "; ") != c.want {
				t.Errorf("got  %q\nwant %q", strings.Join(got, "; "), c.want)
			}
		})
	}
}

func mustEncode(t *testing.T, v any) []byte {
	t.Helper()
	r := &jsonschema.Reflector{Anonymous: true, ExpandedStruct: true, AllowAdditionalProperties: true}
	b, err := encode(r.Reflect(v))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGuardsAreFound holds what is read from the source against what is known of the guards that there are.
func TestGuardsAreFound(t *testing.T) {
	t.Chdir("../..")
	g, err := newGenerator()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"vm.start": "end_proof", "machine.power": "last_copy running_vms",
		"host.adopt_orphan": "end_proof", "log.settle": "lost_grants unreported", "array.create": "foreign_data", "array.replace_leg": "foreign_data"}
	for _, v := range g.verbs {
		found, err := g.src.guards(v.Name)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, c := range found {
			got = append(got, c.Value)
		}
		if strings.Join(got, " ") != want[v.Name] {
			t.Errorf("%s: got %v, want %q", v.Name, got, want[v.Name])
		}
	}
}
