package schemas_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"cloudengine/events"
	"cloudengine/schemas"
)

const base = "schemas:///"

// compiler knows all our schemas, and nothing else: what they refer to must be among them.
func compiler(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	err := fs.WalkDir(schemas.JSON, "json", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := schemas.JSON.ReadFile(p)
		if err != nil {
			return err
		}
		return c.AddResource(base+p, mustTree(t, raw))
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustTree(t *testing.T, raw []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return v
}

func mustCompile(t *testing.T, c *jsonschema.Compiler, p string) *jsonschema.Schema {
	t.Helper()
	s, err := c.Compile(base + "json/" + p + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEverySchemaIsValid(t *testing.T) {
	c := compiler(t)
	n := 0
	err := fs.WalkDir(schemas.JSON, "json", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		if _, err := c.Compile(base + p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
		return nil
	})
	if err != nil || n < 70 {
		t.Fatalf("%d schemas, %v", n, err)
	}
}

// TestSamplesFitTheirSchemas also wants each field of a payload to be in some sample: else its removal would go unnoticed.
func TestSamplesFitTheirSchemas(t *testing.T) {
	c := compiler(t)
	for _, name := range events.Names() {
		t.Run(name, func(t *testing.T) {
			s := mustCompile(t, c, "events/"+name)
			seen := map[string]bool{}
			for _, p := range samples(t, name) {
				raw, err := os.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				v := mustTree(t, raw)
				if err := s.Validate(v); err != nil {
					t.Errorf("%s: %v", filepath.Base(p), err)
				}
				fields("", v, seen)
			}
			for _, f := range properties("", s) {
				if !seen[f] {
					t.Errorf("the field %s is in no sample: add events/testdata/samples/%s.<case>.json (do not change those that are there)", f[1:], name)
				}
			}
		})
	}
}

func samples(t *testing.T, name string) []string {
	t.Helper()
	one := "../events/testdata/samples/" + name + ".json"
	more, err := filepath.Glob("../events/testdata/samples/" + name + ".*.json")
	if err != nil {
		t.Fatal(err)
	}
	return append(more, one)
}

// fields notes the paths of all fields in a value.
func fields(at string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, x := range v {
			into[at+"."+name] = true
			fields(at+"."+name, x, into)
		}
	case []any:
		for _, x := range v {
			fields(at, x, into)
		}
	}
}

// properties lists the paths of all fields that a schema tells of.
func properties(at string, s *jsonschema.Schema) []string {
	var out []string
	if s == nil {
		return nil
	}
	for name, p := range s.Properties {
		out = append(out, at+"."+name)
		out = append(out, properties(at+"."+name, p)...)
	}
	out = append(out, properties(at, s.Ref)...)
	out = append(out, properties(at, s.Items2020)...)
	for _, x := range s.AnyOf {
		out = append(out, properties(at, x)...)
	}
	return out
}

// TestEventsAreTiedToTheirData: the envelope refuses data that does not fit the type it comes with, and lets unknown types pass.
func TestEventsAreTiedToTheirData(t *testing.T) {
	event := mustCompile(t, compiler(t), "envelopes/event")
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{
		"fits":            {`{"aggregate":"account/a","version":1,"type":"account.created.v1","data":{"name":"acme"}}`, true},
		"lacks-a-field":   {`{"aggregate":"account/a","version":1,"type":"account.created.v1","data":{}}`, false},
		"wrong-type":      {`{"aggregate":"account/a","version":1,"type":"account.created.v1","data":{"name":7}}`, false},
		"of-a-newer-kind": {`{"aggregate":"account/a","version":1,"type":"account.dreamt.v3","data":{"of":"sheep"}}`, true},
		"more-fields":     {`{"aggregate":"account/a","version":1,"type":"account.created.v1","data":{"name":"acme","since":"later"}}`, true},
		"no-aggregate":    {`{"aggregate":"account","version":1,"type":"account.created.v1","data":{"name":"acme"}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := event.Validate(mustTree(t, []byte(c.body))); (err == nil) != c.ok {
				t.Errorf("%s: %v", c.body, err)
			}
		})
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// payload decodes a sample by its wire name.
func payload(t *testing.T, name string) events.Event {
	t.Helper()
	raw, err := os.ReadFile("../events/testdata/samples/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	kind, _, _ := strings.Cut(name, ".")
	var e events.Event
	body := `{"aggregate":"` + path.Join(kind, vmID) + `","version":1,"type":"` + name + `","data":` + string(raw) + `}`
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	return e
}
