package dispatch

import (
	"bytes"
	"encoding/json"
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
	body     bytes.Buffer // the decisions, joined by commas
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

// encoder writes decisions as events.Block.Encode would. It is not safe for concurrent use.
type encoder struct {
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
	e.buf.Reset()
	if err := e.enc.Encode(d); err != nil {
		return nil, fmt.Errorf("encode decision on %s: %w", d.Intent, err)
	}
	return bytes.TrimSuffix(e.buf.Bytes(), []byte("\n")), nil
}

// add takes a decision in.
func (b *batch) add(r events.Recorded, encoded []byte) {
	if b.empty() {
		b.first = r.Number
	} else {
		b.body.WriteByte(',')
	}
	b.body.Write(encoded)
	b.recorded = append(b.recorded, r)
}

// close makes the payload, which names the block before.
func (b *batch) close(prev string) {
	out := make([]byte, 0, b.body.Len()+256)
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
	out = append(out, b.body.Bytes()...)
	b.payload = append(out, `]}`...)
	b.digest = events.Digest(b.payload)
}
