package main

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"cloudengine/events"
)

// uuidPattern is the canonical form, in which ids travel.
const uuidPattern = `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`

// idTypes are UUIDs, and what they are the ids of.
var idTypes = map[reflect.Type]string{
	reflect.TypeFor[events.AccountID]():  "id of the account",
	reflect.TypeFor[events.UserID]():     "id of the user",
	reflect.TypeFor[events.TemplateID](): "id of the template",
	reflect.TypeFor[events.MachineID]():  "id of the machine",
	reflect.TypeFor[events.VMID]():       "id of the VM",
	reflect.TypeFor[events.IntentID]():   "id of the intent",
	reflect.TypeFor[events.FabricID]():   "id of the fabric",
	reflect.TypeFor[events.DiskID]():     "id of the disk",
	reflect.TypeFor[events.PoolID]():     "id of the pool",
	reflect.TypeFor[events.ArrayID]():    "id of the array",
	reflect.TypeFor[events.VolumeID]():   "id of the volume",
	reflect.TypeFor[events.NetworkID]():  "id of the network",
	reflect.TypeFor[events.SubnetID]():   "id of the subnet",
	reflect.TypeFor[events.NICID]():      "id of the NIC",
}

// elsewhere are types with a document of their own, which others refer to.
var elsewhere = map[reflect.Type]string{
	reflect.TypeFor[events.Event]():    "event.json",
	reflect.TypeFor[events.Decision](): "decision.json",
}

func (g *generator) reflect(d document) *jsonschema.Schema {
	r := &jsonschema.Reflector{
		Anonymous: true, ExpandedStruct: true, AllowAdditionalProperties: !d.Closed, LookupComment: g.comment,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if file, ok := elsewhere[t]; ok && t != d.Type {
				return &jsonschema.Schema{Ref: file}
			}
			if t == reflect.TypeFor[events.Ref]() {
				return &jsonschema.Schema{Type: "string", Pattern: "^([a-z_]+/.+|/)$"}
			}
			if _, ok := idTypes[t]; !ok {
				return nil
			}
			s := &jsonschema.Schema{Type: "string", Format: "uuid"}
			if d.Closed { // a stamp that a foreign domain carries is recorded as it is
				s.Pattern = uuidPattern
			}
			return s
		},
	}
	s := r.ReflectFromType(d.Type)
	g.finish(d, d.Type, s, s.Definitions, map[reflect.Type]bool{})
	return s
}

// comment finds the words for a type or one of its fields: its own comment; what the rules say; that of the same field of the event which
// the command becomes; what can be said of its name or type.
func (g *generator) comment(t reflect.Type, field string) string {
	key := t.PkgPath() + "." + t.Name()
	if field == "" {
		return g.src.saysType(key)
	}
	rule := rules[typeKey(t)+"."+field]
	text := g.src.says(key + "." + field)
	if text != "" && !rule.instead {
		return text
	}
	if rule.says != "" {
		return rule.says
	}
	for _, e := range g.events {
		if e != t && e.ConvertibleTo(t) && e.NumField() > 0 {
			if text := g.src.says(e.PkgPath() + "." + e.Name() + "." + field); text != "" {
				return text
			}
		}
	}
	f, _ := t.FieldByName(field)
	if text := idTypes[f.Type]; text != "" {
		return text
	}
	return fieldSays[field]
}

// finish adds to the schema of a struct what its Go types alone do not say.
func (g *generator) finish(d document, t reflect.Type, s *jsonschema.Schema, defs jsonschema.Definitions, seen map[reflect.Type]bool) {
	if s == nil || s.Properties == nil || seen[t] {
		return
	}
	seen[t] = true
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p, ok := s.Properties.Get(name)
		if !ok {
			continue
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		switch inner.Kind() {
		case reflect.Uint, reflect.Uint64:
			p.Minimum = "0"
		case reflect.Struct:
			g.finish(d, inner, defs[inner.Name()], defs, seen)
		}
		key := typeKey(t) + "." + f.Name
		if r, ok := rules[key]; ok {
			g.used[key] = true
			s.Properties.Set(name, g.apply(r, p, d.Closed))
		}
	}
}

// apply puts a rule onto a property. What we send is described, and may get more values; what is sent to us is limited.
func (g *generator) apply(r rule, p *jsonschema.Schema, closed bool) *jsonschema.Schema {
	one := p
	if p.Items != nil {
		one = p.Items
	}
	for _, v := range g.values(r) {
		if closed && !r.open {
			one.Enum = append(one.Enum, v.Value)
		} else {
			one.Examples = append(one.Examples, v.Value)
		}
	}
	if r.kind != "" {
		p.Type = r.kind
	}
	if r.format != "" {
		one.Format = r.format
	}
	if closed {
		if r.pattern != "" {
			one.Pattern = r.pattern
		}
		p.Minimum, p.Maximum = keep(p.Minimum, r.min), keep(p.Maximum, r.max)
		p.MinItems, p.MaxItems, one.MaxLength = r.minItems, r.maxItems, r.maxLength
	}
	if r.nullable {
		return &jsonschema.Schema{Description: p.Description, AnyOf: []*jsonschema.Schema{p, {Type: "null"}}}
	}
	return p
}

func keep(old, given json.Number) json.Number {
	if given == "" {
		return old
	}
	return given
}

func (g *generator) values(r rule) []constant {
	if r.values == "" {
		return nil
	}
	found, ok := g.src.groups[r.values]
	if !ok {
		panic("there is no constant " + r.values + ", which a rule names")
	}
	return found.Constants
}
