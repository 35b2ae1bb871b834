package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"cloudengine/commands"
	"cloudengine/events"
	"cloudengine/events/desired"
)

// A document is one schema.
type document struct {
	Title  string
	Path   string
	Type   reflect.Type
	Closed bool // unknown fields are refused: what others send to us. What we send may get more fields.
	Schema *jsonschema.Schema
}

// envelopes are the bodies of messages that are not an event's or a command's own.
var envelopes = []document{
	{Title: "request", Type: reflect.TypeFor[events.Request](), Closed: true},
	{Title: "answer", Type: reflect.TypeFor[events.Answer]()},
	{Title: "read_request", Type: reflect.TypeFor[events.ReadRequest](), Closed: true},
	{Title: "read_answer", Type: reflect.TypeFor[events.ReadAnswer]()},
	{Title: "block", Type: reflect.TypeFor[events.Block]()},
	{Title: "decision", Type: reflect.TypeFor[events.Decision]()},
	{Title: "event", Type: reflect.TypeFor[events.Event]()},
	{Title: "feed_message", Type: reflect.TypeFor[events.FeedMessage]()},
	{Title: "enrol", Type: reflect.TypeFor[events.Enrol](), Closed: true},
	{Title: "report", Type: reflect.TypeFor[events.Report](), Closed: true},
	{Title: "desired_document", Type: reflect.TypeFor[desired.Document]()},
	{Title: "desired_domain", Type: reflect.TypeFor[desired.Domain]()},
	{Title: "desired_orphan", Type: reflect.TypeFor[desired.Orphan]()},
	{Title: "desired_fabric", Type: reflect.TypeFor[desired.Fabric]()},
	{Title: "desired_export", Type: reflect.TypeFor[desired.Export]()},
	{Title: "desired_array", Type: reflect.TypeFor[desired.Array]()},
	{Title: "desired_path", Type: reflect.TypeFor[desired.Path]()},
	{Title: "storage_report", Type: reflect.TypeFor[events.StorageReport](), Closed: true},
	{Title: "desired_term", Type: reflect.TypeFor[desired.Term]()},
}

// eventTypes gives the Go type of each event by its wire name, through the decoder that reads the log.
func eventTypes() (map[string]reflect.Type, error) {
	out := map[string]reflect.Type{}
	for _, name := range events.Names() {
		var e events.Event
		if err := json.Unmarshal(fmt.Appendf(nil, `{"aggregate":"k/i","version":1,"type":%q,"data":{}}`, name), &e); err != nil {
			return nil, fmt.Errorf("find the type of %s: %w", name, err)
		}
		out[name] = reflect.TypeOf(e.Data)
	}
	return out, nil
}

// generator makes the documents. It is used once.
type generator struct {
	src    *source
	events map[string]reflect.Type
	verbs  []commands.VerbInfo
	used   map[string]bool // rules
	docs   []document
}

// generate gives all files by path from the module's root.
func generate() (map[string][]byte, error) {
	g, err := newGenerator()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, d := range g.docs {
		if files[d.Path], err = encode(d.Schema); err != nil {
			return nil, fmt.Errorf("encode %s: %w", d.Path, err)
		}
	}
	if files[cataloguePath], err = g.catalogue(); err != nil {
		return nil, err
	}
	files[tablesPath], err = tables()
	return files, err
}

func newGenerator() (*generator, error) {
	src, err := readSource()
	if err != nil {
		return nil, err
	}
	types, err := eventTypes()
	if err != nil {
		return nil, err
	}
	g := &generator{src: src, events: types, verbs: commands.Verbs(), used: map[string]bool{}}
	for _, name := range src.order {
		if types[name] == nil {
			continue
		}
		g.add(document{Title: name, Path: jsonDir + "/events/" + name + ".json", Type: types[name]})
	}
	for _, v := range g.verbs {
		if v.Role == "" {
			continue
		}
		g.add(document{Title: v.Name, Path: jsonDir + "/commands/" + v.Name + ".json", Type: v.Args, Closed: true})
	}
	for _, d := range envelopes {
		d.Path = jsonDir + "/envelopes/" + d.Title + ".json"
		g.add(d)
	}
	return g, g.check()
}

// check finds rules for nothing, and fields that nothing is said of.
func (g *generator) check() error {
	for key := range rules {
		if !g.used[key] {
			return fmt.Errorf("rule for %s: there is no such field in any schema", key)
		}
	}
	silent := []string{}
	for _, d := range g.docs {
		all := []*jsonschema.Schema{d.Schema}
		for _, s := range d.Schema.Definitions {
			all = append(all, s)
		}
		for _, s := range all {
			if s.Description == "" || strings.HasPrefix(s.Description, "Names a ") { // a reference that commands share: see verbSays
				silent = append(silent, d.Title+": a type")
			}
			for p := s.Properties.Oldest(); p != nil; p = p.Next() {
				if p.Value.Description == "" {
					silent = append(silent, d.Title+": "+p.Key)
				}
			}
		}
	}
	if len(silent) > 0 {
		return fmt.Errorf("describe the schemas: write a comment on each of these fields: %s", strings.Join(silent, ", "))
	}
	return nil
}

func (g *generator) add(d document) {
	d.Schema = g.reflect(d)
	d.Schema.Title = d.Title
	if text, ok := verbSays[d.Title]; ok {
		d.Schema.Description = text
	}
	switch d.Type {
	case reflect.TypeFor[events.Event]():
		for _, name := range events.Names() { // one that is not listed is of a newer version: its data may be anything
			when(d.Schema, "type", name, "data", "../events/"+name+".json")
		}
	case reflect.TypeFor[desired.Document]():
		when(d.Schema, "kind", string(desired.KindDomain), "body", "desired_domain.json")
		when(d.Schema, "kind", string(desired.KindOrphan), "body", "desired_orphan.json")
		when(d.Schema, "kind", string(desired.KindFabric), "body", "desired_fabric.json")
		when(d.Schema, "kind", string(desired.KindExport), "body", "desired_export.json")
		when(d.Schema, "kind", string(desired.KindArray), "body", "desired_array.json")
		when(d.Schema, "kind", string(desired.KindPath), "body", "desired_path.json")
		when(d.Schema, "kind", string(desired.KindTerm), "body", "desired_term.json")
	}
	g.docs = append(g.docs, d)
}

// when ties one field to a schema when another has a value.
func when(s *jsonschema.Schema, field, value, other, ref string) {
	is, then := jsonschema.NewProperties(), jsonschema.NewProperties()
	is.Set(field, &jsonschema.Schema{Const: value})
	then.Set(other, &jsonschema.Schema{Ref: ref})
	s.AllOf = append(s.AllOf, &jsonschema.Schema{
		If:   &jsonschema.Schema{Properties: is, Required: []string{field}},
		Then: &jsonschema.Schema{Properties: then},
	})
}

func encode(s *jsonschema.Schema) ([]byte, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	for escaped, plain := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		raw = bytes.ReplaceAll(raw, []byte(escaped), []byte(plain))
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	return append(out.Bytes(), '\n'), nil
}

// typeKey is "package.Type", which comments and rules are found by.
func typeKey(t reflect.Type) string {
	return t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:] + "." + t.Name()
}
