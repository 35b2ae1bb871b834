package lvm2

import (
	"fmt"
	"strconv"
	"strings"
)

// maxDepth bounds sections within sections.
const maxDepth = 16

// section is one section of a text: values and sections by name. A value is an int64, a string, or a list of them ([]any).
type section map[string]any

// reader reads a text in the form of lvm.conf(5).
type reader struct {
	text string
	at   int
}

func parseText(text string) (section, error) {
	r := &reader{text: text}
	s, err := r.section(0)
	if err != nil {
		return nil, fmt.Errorf("read text at byte %d: %w", r.at, err)
	}
	return s, nil
}

// skip passes over white space and comments.
func (r *reader) skip() {
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == 0:
			r.at++
		case c == '#':
			end := strings.IndexByte(r.text[r.at:], '\n')
			if end < 0 {
				r.at = len(r.text)
				return
			}
			r.at += end
		default:
			return
		}
	}
}

// next gives the next byte that counts, 0 at the end.
func (r *reader) next() byte {
	r.skip()
	if r.at == len(r.text) {
		return 0
	}
	return r.text[r.at]
}

// section reads to the brace that closes it, at the top to the end.
func (r *reader) section(depth int) (section, error) {
	if depth > maxDepth {
		return nil, ErrDamaged
	}
	out := section{}
	for {
		switch c := r.next(); {
		case c == 0 && depth == 0:
			return out, nil
		case c == '}' && depth > 0:
			r.at++
			return out, nil
		}
		name := r.name()
		if _, twice := out[name]; twice || name == "" {
			return nil, ErrDamaged
		}
		var v any
		var err error
		switch r.next() {
		case '{':
			r.at++
			v, err = r.section(depth + 1)
		case '=':
			r.at++
			v, err = r.value(depth)
		default:
			err = ErrDamaged
		}
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == '+' || c == '/'
}

func (r *reader) name() string {
	from := r.at
	for r.at < len(r.text) && nameByte(r.text[r.at]) {
		r.at++
	}
	return r.text[from:r.at]
}

func (r *reader) value(depth int) (any, error) {
	switch c := r.next(); {
	case c == '"':
		return r.quoted()
	case c == '[' && depth <= maxDepth:
		r.at++
		return r.list(depth + 1)
	default:
		return r.number()
	}
}

func (r *reader) number() (any, error) {
	from := r.at
	for r.at < len(r.text) && (nameByte(r.text[r.at])) {
		r.at++
	}
	n, err := strconv.ParseInt(r.text[from:r.at], 10, 64)
	if err != nil {
		return nil, ErrDamaged
	}
	return n, nil
}

func (r *reader) quoted() (any, error) {
	var b strings.Builder
	for r.at++; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return b.String(), nil
		case c == '\\' && r.at+1 < len(r.text):
			r.at++
			b.WriteByte(r.text[r.at])
		default:
			b.WriteByte(c)
		}
	}
	return nil, ErrDamaged
}

func (r *reader) list(depth int) (any, error) {
	out := []any{}
	for {
		if r.next() == ']' {
			r.at++
			return out, nil
		}
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		switch r.next() {
		case ',':
			r.at++
		case ']':
		default:
			return nil, ErrDamaged
		}
	}
}
