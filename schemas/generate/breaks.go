package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// breaks lists what a reader or sender that knows the old files would stumble over in the new ones. Words, examples and limits may change;
// fields may come, if they are optional.
func breaks(old, files map[string][]byte) []string {
	var out []string
	for path, b := range old {
		if !strings.HasSuffix(path, ".json") {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, jsonDir+"/"), ".json")
		if files[path] == nil {
			out = append(out, name+": it is not there any more")
			continue
		}
		c := comparison{name: name, sentToUs: strings.HasPrefix(name, "commands/")}
		if json.Unmarshal(b, &c.old) != nil || json.Unmarshal(files[path], &c.new) != nil {
			out = append(out, name+": the file is not JSON")
			continue
		}
		c.compare("", c.old, c.new)
		out = append(out, c.found...)
	}
	sort.Strings(out)
	return out
}

// comparison is of one document.
type comparison struct {
	name     string
	sentToUs bool // then a field that need not be sent any more breaks nobody
	old, new map[string]any
	found    []string
}

func (c *comparison) say(at, format string, a ...any) {
	if at != "" {
		at = "field " + strings.TrimPrefix(at, ".") + " "
	}
	c.found = append(c.found, c.name+": "+at+fmt.Sprintf(format, a...))
}

// resolve follows a reference within the document; the types of this project hold no cycles.
func resolve(root, s map[string]any) map[string]any {
	ref, _ := s["$ref"].(string)
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	if !ok {
		return s
	}
	defs, _ := root["$defs"].(map[string]any)
	def, _ := defs[name].(map[string]any)
	return def
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func (c *comparison) compare(at string, old, new map[string]any) {
	old, new = resolve(c.old, old), resolve(c.new, new)
	if a, b := shape(old), shape(new); a != b {
		c.say(at, "was %s and is %s", a, b)
		return
	}
	was, is := object(old["properties"]), object(new["properties"])
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if _, ok := is[name]; !ok {
			c.say(at+"."+name, "was removed")
			continue
		}
		c.compare(at+"."+name, object(was[name]), object(is[name]))
	}
	c.required(at, old, new)
	for _, key := range []string{"items", "additionalProperties"} {
		if object(old[key]) != nil {
			c.compare(at+"[]", object(old[key]), object(new[key]))
		}
	}
	a, _ := old["anyOf"].([]any)
	b, _ := new["anyOf"].([]any)
	for i := range min(len(a), len(b)) {
		c.compare(at, object(a[i]), object(b[i]))
	}
}

func (c *comparison) required(at string, old, new map[string]any) {
	was, _ := old["required"].([]any)
	is, _ := new["required"].([]any)
	for _, name := range is {
		if !slices.Contains(was, name) {
			c.say(at+"."+name.(string), "is required now: what was stored or sent before lacks it")
		}
	}
	for _, name := range was {
		if _, there := object(new["properties"])[name.(string)]; there && !c.sentToUs && !slices.Contains(is, name) {
			c.say(at+"."+name.(string), "may be absent now: readers count on it")
		}
	}
}

// shape is the type of a value as far as a reader must know it.
func shape(s map[string]any) string {
	parts := []string{}
	for _, key := range []string{"type", "format", "contentEncoding", "$ref"} {
		if v, ok := s[key].(string); ok {
			parts = append(parts, v)
		}
	}
	if list, ok := s["anyOf"].([]any); ok {
		parts = append(parts, fmt.Sprintf("one of %d", len(list)))
	}
	if reflect.DeepEqual(s["additionalProperties"], false) {
		parts = append(parts, "without other fields")
	}
	if len(parts) == 0 {
		return "anything"
	}
	return strings.Join(parts, " ")
}
