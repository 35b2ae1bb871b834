package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"golang.org/x/time/rate"
)

// limits holds one rate limiter per sender. Senders are users and machines, so there are not many.
type limits struct {
	mu sync.Mutex
	by map[string]*rate.Limiter
}

func newLimits() *limits { return &limits{by: map[string]*rate.Limiter{}} }

func (l *limits) allow(who string, perSecond rate.Limit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.by[who]
	if r == nil {
		r = rate.NewLimiter(perSecond, int(perSecond))
		l.by[who] = r
	}
	return r.Allow()
}

// strict reads a body of at most events.MaxRequest bytes: UTF-8, one JSON object, no unknown field, nothing behind it. Its error
// is for the sender.
func strict(body []byte, into any) error {
	if len(body) > events.MaxRequest {
		return fmt.Errorf("the request has %d bytes; at most %d are taken", len(body), events.MaxRequest)
	}
	if !utf8.Valid(body) {
		return errors.New("the request is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the request is empty; want a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the request is not JSON: it ends too early")
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("the request is a JSON %s; want an object", wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("field %q: want %s, got %s", wrong.Field, wrong.Type, wrong.Value)
	case errors.As(err, &syntax):
		return fmt.Errorf("the request is not JSON: %v at byte %d", syntax, syntax.Offset)
	case err != nil:
		return fmt.Errorf("read request: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the end of the request's JSON object")
	}
	return nil
}

// busyAnswer is the answer of the right form for a subject.
func busyAnswer(subject, message string) any {
	o := refusal(events.CodeBusy, "%s", message)
	switch kind, rest, _ := strings.Cut(subject, "."); {
	case kind == "read":
		return events.ReadAnswer{Error: &o}
	case kind == "console":
		return wire.ConsoleAnswer{Error: &o}
	case kind == "put" && strings.HasSuffix(rest, ".blob"):
		return wire.BlobAnswer{Error: &o}
	}
	return events.Answer{Outcome: o}
}
