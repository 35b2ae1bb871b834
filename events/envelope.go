package events

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Envelope is a stored block with its decisions as the bytes that lie there. They share memory with the payload.
type Envelope struct {
	Format    int
	Term      uint64
	First     uint64
	TimeText  []byte // as it lies there, without its quotes
	Time      time.Time
	Prev      string
	Decisions [][]byte
}

// Last gives the number of the block's last decision.
func (e *Envelope) Last() uint64 { return e.First + uint64(len(e.Decisions)) - 1 }

// Header gives the block without its decisions.
func (e *Envelope) Header() Block {
	return Block{Format: e.Format, Term: e.Term, First: e.First, Time: e.Time, Prev: e.Prev}
}

// OpenEnvelope finds the decisions in a stored payload without decoding them: what it gives is where DecodeBlock would look, for every
// payload that both accept. A field that is there twice, or in other letters, is refused; whether decisions are valid JSON is not looked at.
func OpenEnvelope(payload []byte) (*Envelope, error) {
	e, err := openEnvelope(payload)
	if err != nil {
		return nil, fmt.Errorf("open block: %w", err)
	}
	if e.Format != Format {
		return nil, fmt.Errorf("open block %d: format %d is not known to this version, which reads format %d", e.First, e.Format, Format)
	}
	if e.First == 0 || e.Term == 0 || len(e.Decisions) == 0 {
		return nil, fmt.Errorf("open block %d: first, term and decisions must not be empty", e.First)
	}
	return e, nil
}

func openEnvelope(payload []byte) (*Envelope, error) {
	e := &Envelope{}
	s := scanner{b: payload}
	return e, e.read(&s, func() error {
		d, err := s.extent()
		if err == nil && d[0] != '{' {
			err = fmt.Errorf("decision %d is no object", len(e.Decisions)+1)
		}
		e.Decisions = append(e.Decisions, d)
		return err
	})
}

var envelopeFields = []string{"format", "term", "first", "time", "prev", "decisions"}

// read reads all fields; decision, at each decision, must consume it.
func (e *Envelope) read(s *scanner, decision func() error) error {
	seen := 0
	err := s.object(func(key []byte) error {
		for i, name := range envelopeFields {
			if name != string(key) || seen&(1<<i) != 0 {
				continue
			}
			seen |= 1 << i
			if name == "decisions" {
				e.Decisions = [][]byte{}
				return s.array(decision)
			}
			return e.field(s, name)
		}
		return unheard(s, key, envelopeFields)
	})
	if err != nil {
		return err
	}
	return s.end()
}

// unheard passes over a field of a newer version. One that is known, there again or in other letters, is none of these.
func unheard(s *scanner, key []byte, known []string) error {
	for _, name := range known {
		if strings.EqualFold(name, string(key)) {
			return fmt.Errorf("field %q is there twice or in other letters", key)
		}
	}
	if bytes.IndexByte(key, '\\') >= 0 {
		return fmt.Errorf("field %q has something escaped in its name", key)
	}
	return s.skip(key)
}

func (e *Envelope) field(s *scanner, name string) error {
	v, err := s.value()
	if err != nil {
		return err
	}
	switch name {
	case "format":
		e.Format, err = strconv.Atoi(string(v))
	case "term":
		e.Term, err = strconv.ParseUint(string(v), 10, 64)
	case "first":
		e.First, err = strconv.ParseUint(string(v), 10, 64)
	case "time":
		if e.TimeText, err = plain(v); err == nil {
			err = e.Time.UnmarshalText(e.TimeText)
		}
	case "prev":
		v, err = plain(v)
		e.Prev = string(v)
	}
	if err != nil {
		return fmt.Errorf("field %q: %w", name, err)
	}
	return nil
}

// plain gives what is in a JSON string of ASCII that has nothing escaped.
func plain(v []byte) ([]byte, error) {
	s := scanner{b: v}
	body, odd, err := s.text()
	if err != nil || odd {
		return nil, fmt.Errorf("%.40s: want a string of ASCII with nothing escaped", v)
	}
	return body, nil
}
