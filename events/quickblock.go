package events

import (
	"encoding/json"
	"reflect"
	"sync"
	"sync/atomic"
)

// payload is how the data of one event is read.
type payload struct {
	name string
	read quick
	pool sync.Pool // of pointers to the type
}

// payloads gives what reads each event without an upcaster, by its wire name.
var payloads = sync.OnceValue(func() map[string]*payload {
	out := map[string]*payload{}
	for name, decode := range decoders {
		p, err := decode(json.RawMessage("{}"))
		if err != nil || upcasters[name] != nil {
			continue
		}
		t := reflect.TypeOf(p)
		out[name] = &payload{name, quickOf(t), sync.Pool{New: func() any { return reflect.New(t).Interface() }}}
	}
	return out
})

// decode reads the data. What is given is a copy.
func (p *payload) decode(s *scanner) (Payload, error) {
	pointer := p.pool.Get()
	defer p.pool.Put(pointer)
	v := reflect.ValueOf(pointer).Elem()
	v.SetZero()
	if err := p.read(s, v); err != nil {
		return nil, err
	}
	return v.Interface().(Payload), nil
}

// sizeOfOne is about how many bytes a decision has at most, and its share of the block's own.
const sizeOfOne = 800

// quickBlock reads a block that is in the form that we write. Any error means that encoding/json must read it.
func quickBlock(payload []byte) (*Block, error) {
	var e Envelope
	var all []Decision
	s := scanner{b: payload}
	err := e.read(&s, func() error {
		if all == nil {
			all = make([]Decision, 0, len(payload)/sizeOfOne+1)
		}
		all = append(all, Decision{})
		return s.decision(&all[len(all)-1])
	})
	if err != nil {
		return nil, err
	}
	b := e.Header()
	if b.Decisions = all; all == nil && e.Decisions != nil {
		b.Decisions = []Decision{}
	}
	return &b, nil
}

// Decode decodes the block of an envelope, as DecodeBlock does with the payload that it was opened from.
func (e *Envelope) Decode(payload []byte) (*Block, error) {
	if b, err := e.quick(); err == nil {
		return b, nil
	}
	return DecodeBlock(payload)
}

func (e *Envelope) quick() (*Block, error) {
	b := e.Header()
	if e.Decisions != nil {
		b.Decisions = make([]Decision, len(e.Decisions))
	}
	for i, raw := range e.Decisions {
		s := scanner{b: raw}
		if err := s.decision(&b.Decisions[i]); err != nil {
			return nil, err
		}
	}
	return &b, nil
}

// decision reads a decision. Its fields come once each: seen has a bit for each.
func (s *scanner) decision(d *Decision) error {
	seen := 0
	return s.object(func(key []byte) (err error) {
		bit := 0
		switch string(key) {
		case "intent":
			bit = 1
			d.Intent, err = as[IntentID](s)
		case "actor":
			bit = 2
			d.Actor, err = s.frequent()
		case "kind":
			bit = 4
			var text string
			text, err = s.frequent()
			d.Kind = Kind(text)
		case "verb":
			bit = 8
			d.Verb, err = s.frequent()
		case "args":
			bit = 16
			var raw []byte
			raw, err = s.value()
			d.Args = append(json.RawMessage{}, raw...)
		case "cause":
			bit = 32
			d.Cause, err = s.string()
		case "correlation":
			bit = 64
			d.Correlation, err = s.string()
		case "reason":
			bit = 128
			d.Reason, err = s.string()
		case "outcome":
			bit = 256
			err = s.outcome(&d.Outcome)
		case "events":
			bit = 512
			d.Events, err = s.events()
		case "expect":
			bit = 1024
			err = quickOf(reflect.TypeFor[*Expect]())(s, reflect.ValueOf(&d.Expect).Elem())
		case "override":
			bit = 2048
			err = quickOf(reflect.TypeFor[[]string]())(s, reflect.ValueOf(&d.Override).Elem())
		}
		if bit == 0 || seen&bit != 0 {
			return errSlow
		}
		seen |= bit
		return err
	})
}

func as[S ~string](s *scanner) (S, error) {
	text, err := s.string()
	return S(text), err
}

func (s *scanner) outcome(o *Outcome) error {
	seen := 0
	return s.object(func(key []byte) (err error) {
		bit := 0
		switch string(key) {
		case "status":
			bit = 1
			var text string
			text, err = s.frequent()
			o.Status = Status(text)
		case "code":
			bit = 2
			o.Code, err = s.string()
		case "guard":
			bit = 4
			o.Guard, err = s.string()
		case "message":
			bit = 8
			o.Message, err = s.string()
		}
		if bit == 0 || seen&bit != 0 {
			return errSlow
		}
		seen |= bit
		return err
	})
}

func (s *scanner) events() ([]Event, error) {
	out := make([]Event, 0, 2)
	err := s.array(func() error {
		out = append(out, Event{})
		return s.event(&out[len(out)-1])
	})
	return out, err
}

// event reads an event whose data comes after its type.
func (s *scanner) event(e *Event) error {
	seen := 0
	err := s.object(func(key []byte) (err error) {
		bit := 0
		switch string(key) {
		case "aggregate":
			bit = 1
			e.Aggregate, err = s.ref()
		case "version":
			bit = 2
			s.space()
			e.Version, err = s.uint()
		case "type":
			bit = 4
			e.Type, err = s.frequent()
		case "data":
			bit = 8
			if seen&4 == 0 {
				return errSlow
			}
			e.Data, err = s.payload(e.Type)
		}
		if bit == 0 || seen&bit != 0 {
			return errSlow
		}
		seen |= bit
		return err
	})
	if err == nil && (e.Type == "" || e.Aggregate.ID == "" || e.Data == nil) {
		return errSlow
	}
	return err
}

// payload reads the data of an event, by its type's wire name.
func (s *scanner) payload(name string) (Payload, error) {
	if p, ok := payloads()[name]; ok {
		return p.decode(s)
	}
	raw, err := s.value()
	if err != nil {
		return nil, err
	}
	return decodePayload(name, raw)
}

// frequent holds strings that come again and again (actors, verbs, types), so that each is in memory once as a rule.
var frequent [256]atomic.Pointer[string]

// frequent reads a string that comes often.
func (s *scanner) frequent() (string, error) {
	s.space()
	at := s.i
	body, odd, err := s.text()
	if err != nil || odd || len(body) == 0 {
		s.i = at
		return s.string()
	}
	slot := &frequent[(uint(body[len(body)-1])*31+uint(body[len(body)/2])*7+uint(len(body)))%uint(len(frequent))]
	if known := slot.Load(); known != nil && *known == string(body) {
		return *known, nil
	}
	text := string(body)
	slot.Store(&text)
	return text, nil
}
