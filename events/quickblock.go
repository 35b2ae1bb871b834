package events

import (
	"encoding/json"
	"reflect"
	"sync"
)

// payloads gives the type of each event that is read without an upcaster, by its wire name.
var payloads = sync.OnceValue(func() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for name, decode := range decoders {
		if p, err := decode(json.RawMessage("{}")); err == nil && upcasters[name] == nil {
			out[name] = reflect.TypeOf(p)
		}
	}
	return out
})

// quickBlock reads a block that is in the form that we write. Any error means that encoding/json must read it.
func quickBlock(payload []byte) (*Block, error) {
	e, err := openEnvelope(payload)
	if err != nil {
		return nil, err
	}
	return e.quick()
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
			d.Actor, err = s.string()
		case "kind":
			bit = 4
			d.Kind, err = s.kind()
		case "verb":
			bit = 8
			d.Verb, err = s.string()
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

// kind reads a kind; one that is known takes no memory.
func (s *scanner) kind() (Kind, error) {
	body, odd, err := s.text()
	if err == nil && odd {
		err = errSlow
	}
	return knownKind(body), err
}

func knownKind(b []byte) Kind {
	for _, k := range []Kind{KindVM, KindOperation, KindMachine, KindHost} {
		if string(k) == string(b) {
			return k
		}
	}
	return Kind(b)
}

func (s *scanner) outcome(o *Outcome) error {
	seen := 0
	return s.object(func(key []byte) (err error) {
		bit := 0
		switch string(key) {
		case "status":
			bit = 1
			o.Status, err = as[Status](s)
			if o.Status == Accepted {
				o.Status = Accepted // the constant, so that the bytes are not kept
			}
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
			e.Type, err = s.string()
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

func (s *scanner) payload(name string) (Payload, error) {
	t, ok := payloads()[name]
	if !ok {
		raw, err := s.value()
		if err != nil {
			return nil, err
		}
		return decodePayload(name, raw)
	}
	v := reflect.New(t).Elem()
	if err := quickOf(t)(s, v); err != nil {
		return nil, err
	}
	return v.Interface().(Payload), nil
}
