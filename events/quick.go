package events

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// The log is written in one form and read millions of times. What is in that form is read here, several times quicker than by
// encoding/json and with the same result; anything else is errSlow, and the whole is read again by encoding/json, whose word is final.

// errSlow leaves a payload to encoding/json.
var errSlow = errors.New("this is not in the form that is read quickly")

// quick reads a value of one type from a scanner.
type quick func(s *scanner, into reflect.Value) error

var quicks sync.Map // reflect.Type → quick

// quickOf gives the reader of a type.
func quickOf(t reflect.Type) quick {
	if q, ok := quicks.Load(t); ok {
		return q.(quick)
	}
	q := makeQuick(t)
	quicks.Store(t, q)
	return q
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func makeQuick(t reflect.Type) quick {
	switch {
	case t == reflect.TypeFor[Ref]():
		return quickRef
	case t == reflect.TypeFor[time.Time]():
		return quickTime
	case reflect.PointerTo(t).Implements(jsonUnmarshaler) || reflect.PointerTo(t).Implements(textUnmarshaler):
		return quickByJSON
	}
	switch t.Kind() {
	case reflect.String:
		return quickString
	case reflect.Bool:
		return quickBool
	case reflect.Int, reflect.Int64:
		return quickInt
	case reflect.Uint64:
		return quickUint
	case reflect.Struct:
		return makeQuickStruct(t)
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return makeQuickSlice(t)
		}
	case reflect.Pointer:
		elem := t.Elem()
		read := quickOf(elem)
		return func(s *scanner, into reflect.Value) error {
			if s.peek() == 'n' {
				return errSlow
			}
			p := reflect.New(elem)
			into.Set(p)
			return read(s, p.Elem())
		}
	}
	return quickByJSON
}

// quickByJSON has encoding/json read one value within.
func quickByJSON(s *scanner, into reflect.Value) error {
	raw, err := s.value()
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into.Addr().Interface())
}

func quickString(s *scanner, into reflect.Value) error {
	text, err := s.string()
	into.SetString(text)
	return err
}

// string reads a string.
func (s *scanner) string() (string, error) {
	s.space()
	at := s.i
	body, odd, err := s.text()
	if err != nil {
		return "", err
	}
	if odd && (!utf8.Valid(body) || bytes.IndexByte(body, '\\') >= 0) {
		var out string
		err := json.Unmarshal(s.b[at:s.i], &out)
		return out, err
	}
	return string(body), nil
}

func quickRef(s *scanner, into reflect.Value) error {
	r, err := s.ref()
	*into.Addr().Interface().(*Ref) = r
	return err
}

func quickTime(s *scanner, into reflect.Value) error {
	body, odd, err := s.text()
	if err == nil && odd {
		err = errSlow
	}
	if err != nil {
		return err
	}
	return into.Addr().Interface().(*time.Time).UnmarshalText(body)
}

// ref reads what names an aggregate.
func (s *scanner) ref() (Ref, error) {
	body, odd, err := s.text()
	if err == nil && odd {
		err = errSlow
	}
	var r Ref
	if err == nil {
		err = r.UnmarshalText(body)
	}
	return r, err
}

func quickBool(s *scanner, into reflect.Value) error {
	raw, err := s.value()
	if err == nil && string(raw) != "true" && string(raw) != "false" {
		err = errSlow
	}
	into.SetBool(string(raw) == "true")
	return err
}

func quickInt(s *scanner, into reflect.Value) error {
	negative := s.peek() == '-'
	if negative {
		s.i++
	}
	n, err := s.uint()
	if err == nil && n > math.MaxInt64 {
		err = errSlow
	}
	if negative {
		into.SetInt(-int64(n))
	} else {
		into.SetInt(int64(n))
	}
	return err
}

func quickUint(s *scanner, into reflect.Value) error {
	s.space()
	n, err := s.uint()
	into.SetUint(n)
	return err
}

// uint reads a whole number of up to 18 digits.
func (s *scanner) uint() (uint64, error) {
	at, n := s.i, uint64(0)
	for s.i < len(s.b) && isDigit(s.b[s.i]) {
		n = n*10 + uint64(s.b[s.i]-'0')
		s.i++
	}
	switch size := s.i - at; {
	case size == 0, size > 18, size > 1 && s.b[at] == '0':
		return 0, errSlow
	case s.i < len(s.b) && (s.b[s.i] == '.' || s.b[s.i]|0x20 == 'e'):
		return 0, errSlow
	}
	return n, nil
}

// quickField is one field of a struct.
type quickField struct {
	name  string
	index int
	read  quick
}

// makeQuickStruct reads fields by their names, which come in the order of the type as a rule. A type that embeds another is left to
// encoding/json.
func makeQuickStruct(t reflect.Type) quick {
	var fields []quickField
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous || strings.Contains(options, "string") || !f.IsExported() && name != "-":
			return quickByJSON
		case name == "-":
			continue
		case name == "":
			name = f.Name
		}
		fields = append(fields, quickField{name, i, quickOf(f.Type)})
	}
	if len(fields) > 64 {
		return quickByJSON
	}
	return func(s *scanner, into reflect.Value) error {
		next, seen := 0, uint64(0)
		return s.object(func(key []byte) error {
			for range fields {
				if next == len(fields) {
					next = 0
				}
				f := &fields[next]
				if f.name != string(key) {
					next++
					continue
				}
				if seen&(1<<next) != 0 {
					return errSlow
				}
				seen |= 1 << next
				next++
				return f.read(s, into.Field(f.index))
			}
			return s.unknown(key, fields)
		})
	}
}

// unknown passes over a field that a newer version has written. encoding/json would take other letters for the same name.
func (s *scanner) unknown(key []byte, known []quickField) error {
	for i := range known {
		if strings.EqualFold(known[i].name, string(key)) {
			return errSlow
		}
	}
	if bytes.IndexByte(key, '\\') >= 0 {
		return errSlow
	}
	return s.skip(key)
}

func makeQuickSlice(t reflect.Type) quick {
	read := quickOf(t.Elem())
	return func(s *scanner, into reflect.Value) error {
		out := reflect.MakeSlice(t, 0, 4)
		zero := reflect.Zero(t.Elem())
		err := s.array(func() error {
			out = reflect.Append(out, zero)
			return read(s, out.Index(out.Len()-1))
		})
		into.Set(out)
		return err
	}
}
