package dispatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"cloudengine/events"
)

// batch is a block in the making: decisions that are folded, but not stored.
type batch struct {
	time     time.Time
	term     uint64
	first    uint64
	recorded []events.Recorded
	body     []byte // the decisions, joined by commas
	waiting  []waiting
	sealed   bool // takes no more decisions

	payload []byte // once it is closed
	digest  string
}

// waiting is an answer that may be given when everything decided so far is stored.
type waiting struct {
	p      *pending
	answer events.Answer
}

func (b *batch) empty() bool { return len(b.recorded) == 0 }

// encoder writes decisions byte for byte as events.Block.Encode would, without reflection where most bytes are. It is not safe for
// concurrent use.
type encoder struct {
	out []byte
	buf bytes.Buffer
	enc *json.Encoder
}

func newEncoder() *encoder {
	e := &encoder{}
	e.enc = json.NewEncoder(&e.buf)
	e.enc.SetEscapeHTML(false)
	return e
}

// decision gives the encoded decision; the bytes are valid until the next call.
func (e *encoder) decision(d *events.Decision) ([]byte, error) {
	e.out = e.out[:0]
	err := errors.Join(e.text(`{"intent":`, string(d.Intent)), e.text(`,"actor":`, d.Actor),
		e.text(`,"kind":`, string(d.Kind)), e.text(`,"verb":`, d.Verb), e.args(d.Args))
	if d.Expect != nil {
		err = errors.Join(err, e.value(`,"expect":`, d.Expect))
	}
	if len(d.Override) > 0 {
		err = errors.Join(err, e.value(`,"override":`, d.Override))
	}
	err = errors.Join(err, e.optional(`,"cause":`, d.Cause), e.optional(`,"correlation":`, d.Correlation), e.optional(`,"reason":`, d.Reason),
		e.text(`,"outcome":{"status":`, string(d.Outcome.Status)), e.optional(`,"code":`, d.Outcome.Code),
		e.optional(`,"guard":`, d.Outcome.Guard), e.optional(`,"message":`, d.Outcome.Message))
	e.out = append(e.out, '}')
	for i := range d.Events {
		err = errors.Join(err, e.event(i, &d.Events[i]))
	}
	if len(d.Events) > 0 {
		e.out = append(e.out, ']')
	}
	if err != nil {
		return nil, fmt.Errorf("encode decision on %s: %w", d.Intent, err)
	}
	e.out = append(e.out, '}')
	return e.out, nil
}

func (e *encoder) event(i int, x *events.Event) error {
	lead := `,{"aggregate":`
	if i == 0 {
		lead = `,"events":[{"aggregate":`
	}
	err := e.text(lead, x.Aggregate.String())
	e.out = append(e.out, `,"version":`...)
	e.out = strconv.AppendUint(e.out, x.Version, 10)
	err = errors.Join(err, e.text(`,"type":`, x.Type), e.value(`,"data":`, x.Data))
	e.out = append(e.out, '}')
	return err
}

func (e *encoder) args(raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	e.out = append(e.out, `,"args":`...)
	e.buf.Reset()
	if err := json.Compact(&e.buf, raw); err != nil {
		return err
	}
	e.out = append(e.out, e.buf.Bytes()...)
	return nil
}

func (e *encoder) optional(lead, s string) error {
	if s == "" {
		return nil
	}
	return e.text(lead, s)
}

// text writes a string; one with nothing to escape as it is.
func (e *encoder) text(lead, s string) error {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return e.value(lead, s)
		}
	}
	e.out = append(e.out, lead...)
	e.out = append(e.out, '"')
	e.out = append(e.out, s...)
	e.out = append(e.out, '"')
	return nil
}

func (e *encoder) value(lead string, v any) error {
	e.buf.Reset()
	if err := e.enc.Encode(v); err != nil {
		return err
	}
	e.out = append(e.out, lead...)
	e.out = append(e.out, bytes.TrimSuffix(e.buf.Bytes(), []byte("\n"))...)
	return nil
}

// add takes a decision in.
func (b *batch) add(r events.Recorded, encoded []byte) {
	if b.empty() {
		b.first = r.Number
	} else {
		b.body = append(b.body, ',')
	}
	b.body = append(b.body, encoded...)
	b.recorded = append(b.recorded, r)
}

// close makes the payload, which names the block before.
func (b *batch) close(prev string) {
	out := make([]byte, 0, len(b.body)+256)
	out = append(out, `{"format":`...)
	out = strconv.AppendInt(out, events.Format, 10)
	out = append(out, `,"term":`...)
	out = strconv.AppendUint(out, b.term, 10)
	out = append(out, `,"first":`...)
	out = strconv.AppendUint(out, b.first, 10)
	out = append(out, `,"time":"`...)
	out = b.time.AppendFormat(out, time.RFC3339Nano)
	out = append(out, `","prev":"`...)
	out = append(out, prev...)
	out = append(out, `","decisions":[`...)
	out = append(out, b.body...)
	b.payload = append(out, `]}`...)
	b.digest = events.Digest(b.payload)
}
