package events

import (
	"bytes"
	"errors"
	"fmt"
)

var errScan = errors.New("this is not JSON")

// scanner goes through JSON and finds where its values begin and end. It checks their nesting and not what they say: whoever uses
// a value parses it.
type scanner struct {
	b []byte
	i int
}

const maxDepth = 10000 // as in encoding/json

func (s *scanner) bad() error { return fmt.Errorf("%w at byte %d", errScan, s.i) }

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// take consumes c after spaces.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// end checks that nothing follows.
func (s *scanner) end() error {
	if s.space(); s.i != len(s.b) {
		return s.bad()
	}
	return nil
}

// object calls f at the value of each field, which f must consume. A key with something escaped is given as it lies there.
func (s *scanner) object(f func(key []byte) error) error {
	if !s.take('{') {
		return s.bad()
	}
	if s.take('}') {
		return nil
	}
	for {
		s.space()
		at := s.i
		if err := s.text(); err != nil {
			return err
		}
		key := s.b[at+1 : s.i-1]
		if !s.take(':') {
			return s.bad()
		}
		if err := f(key); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return s.bad()
		}
	}
}

// array calls f at each element, which f must consume.
func (s *scanner) array(f func() error) error {
	if !s.take('[') {
		return s.bad()
	}
	if s.take(']') {
		return nil
	}
	for {
		if err := f(); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.bad()
		}
	}
}

// text consumes a string with its quotes.
func (s *scanner) text() error {
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		return s.bad()
	}
	for at := s.i + 1; ; {
		n := bytes.IndexByte(s.b[at:], '"')
		if n < 0 {
			s.i = len(s.b)
			return s.bad()
		}
		slashes := 0
		for j := at + n - 1; j > s.i && s.b[j] == '\\'; j-- {
			slashes++
		}
		if at += n + 1; slashes%2 == 0 {
			s.i = at
			return nil
		}
	}
}

// value consumes one value and gives its bytes.
func (s *scanner) value() ([]byte, error) {
	s.space()
	at, depth := s.i, 0
	var open []byte
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case '"':
			if err := s.text(); err != nil {
				return nil, err
			}
		case '{', '[':
			if depth++; depth > maxDepth {
				return nil, s.bad()
			}
			open = append(open, c+2) // the closing ones are two further
			s.i++
		case '}', ']':
			if depth == 0 || open[depth-1] != c {
				return nil, s.bad()
			}
			depth--
			open = open[:depth]
			s.i++
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return nil, s.bad()
			}
			s.i++
		default:
			s.word()
		}
		if depth == 0 {
			return s.b[at:s.i], nil
		}
	}
	return nil, s.bad()
}

// word consumes a number, true, false or null.
func (s *scanner) word() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case '"', '{', '[', '}', ']', ',', ':', ' ', '\t', '\n', '\r':
			return
		}
		s.i++
	}
}
