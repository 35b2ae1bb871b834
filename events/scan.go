package events

import (
	"bytes"
	"errors"
	"fmt"
)

var errScan = errors.New("this is not JSON")

// scanner goes through JSON. What it passes is valid as encoding/json has it.
type scanner struct {
	b     []byte
	i     int
	depth int
}

const maxDepth = 1000 // in encoding/json 10000; what is deeper is left to it

func (s *scanner) bad() error { return fmt.Errorf("%w at byte %d", errScan, s.i) }

func (s *scanner) space() {
	for s.i < len(s.b) && s.b[s.i] <= ' ' {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek gives the next byte after spaces; 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// take consumes c after spaces.
func (s *scanner) take(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c { // there are no spaces as we write it
		s.i++
		return true
	}
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
	if s.depth++; !s.take('{') || s.depth > maxDepth {
		return s.bad()
	}
	if s.take('}') {
		s.depth--
		return nil
	}
	for {
		key, _, err := s.text()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return s.bad()
		}
		if err := f(key); err != nil {
			return err
		}
		if s.take(',') {
			continue
		}
		if s.take('}') {
			s.depth--
			return nil
		}
		return s.bad()
	}
}

// array calls f at each element, which f must consume.
func (s *scanner) array(f func() error) error {
	if s.depth++; !s.take('[') || s.depth > maxDepth {
		return s.bad()
	}
	if s.take(']') {
		s.depth--
		return nil
	}
	for {
		if err := f(); err != nil {
			return err
		}
		if s.take(',') {
			continue
		}
		if s.take(']') {
			s.depth--
			return nil
		}
		return s.bad()
	}
}

// How bytes stand in a string: 0 as they are.
const (
	isEnd    = 1
	isEscape = 2
	isHigh   = 4 // not ASCII
	isBad    = 8
)

var inText = func() (t [256]byte) {
	for c := range t {
		switch {
		case c < ' ':
			t[c] = isBad
		case c == '"':
			t[c] = isEnd
		case c == '\\':
			t[c] = isEscape
		case c >= 0x80:
			t[c] = isHigh
		}
	}
	return t
}()

// text consumes a string and gives what is between its quotes. odd: it has something escaped, or is not ASCII.
func (s *scanner) text() (body []byte, odd bool, err error) {
	if !s.take('"') {
		return nil, false, s.bad()
	}
	at := s.i
	for s.i < len(s.b) {
		switch inText[s.b[s.i]] {
		case 0:
		case isEnd:
			s.i++
			return s.b[at : s.i-1], odd, nil
		case isEscape:
			odd = true
			if err := s.escape(); err != nil {
				return nil, odd, err
			}
		case isHigh:
			odd = true
		default:
			return nil, odd, s.bad()
		}
		s.i++
	}
	return nil, odd, s.bad()
}

// escape stands at a backslash and goes to the last byte that belongs to it.
func (s *scanner) escape() error {
	if s.i++; s.i >= len(s.b) {
		return s.bad()
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			if s.i++; s.i >= len(s.b) || !isHex(s.b[s.i]) {
				return s.bad()
			}
		}
		return nil
	}
	return s.bad()
}

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// value consumes one value and gives its bytes.
func (s *scanner) value() ([]byte, error) {
	c := s.peek()
	at := s.i
	var err error
	switch {
	case c == '"':
		_, _, err = s.text()
	case c == '{':
		err = s.object(s.skip)
	case c == '[':
		err = s.array(func() error { return s.skip(nil) })
	case c == '-' || isDigit(c):
		err = s.number()
	default:
		err = s.word()
	}
	return s.b[at:s.i], err
}

func (s *scanner) skip([]byte) error {
	_, err := s.value()
	return err
}

func (s *scanner) digits() bool {
	at := s.i
	for s.i < len(s.b) && isDigit(s.b[s.i]) {
		s.i++
	}
	return s.i > at
}

// number consumes a number, by the grammar of JSON.
func (s *scanner) number() error {
	if s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return s.bad()
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		if s.i++; !s.digits() {
			return s.bad()
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		if s.i++; s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.bad()
		}
	}
	return nil
}

// word consumes true, false or null.
func (s *scanner) word() error {
	for _, w := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.b[s.i:], []byte(w)) {
			s.i += len(w)
			return nil
		}
	}
	return s.bad()
}

// extent gives the bytes of an object or array without looking at more than strings and nesting: of valid JSON those that value gives.
func (s *scanner) extent() ([]byte, error) {
	if c := s.peek(); c != '{' && c != '[' {
		return s.value()
	}
	at, depth := s.i, 0
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case '"':
			if !s.passText() {
				return nil, s.bad()
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				s.i++
				return s.b[at:s.i], nil
			}
		}
		s.i++
	}
	return nil, s.bad()
}

// passText goes behind the string that begins here.
func (s *scanner) passText() bool {
	for from := s.i + 1; ; {
		n := bytes.IndexByte(s.b[from:], '"')
		if n < 0 {
			return false
		}
		end, slashes := from+n, 0
		for j := end - 1; j > s.i && s.b[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			s.i = end + 1
			return true
		}
		from = end + 1
	}
}
