package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// blocks is a log in memory.
type blocks struct {
	all []*events.Block
	err error
}

func (l blocks) Load(_ context.Context, p events.Position, f func(events.Position, *events.Block) error) (events.Position, error) {
	for i, b := range l.all {
		p.Seq, p.Number = uint64(i+1), b.Last()
		if err := f(p, b); err != nil {
			return p, err
		}
	}
	return p, l.err
}

// webOf makes a log: ann of the account acc makes the VM web and wants it running and stopped in turns; admin makes one of another account.
func webOf(turns int, args json.RawMessage) blocks {
	accepted := events.Outcome{Status: events.Accepted}
	decided := func(actor, verb string, id string, data events.Payload) events.Decision {
		return events.Decision{Intent: events.IntentID(fmt.Sprintf("%s-%s", id, verb)), Actor: actor, Kind: events.KindVM, Verb: verb, Args: args,
			Outcome: accepted, Events: []events.Event{events.New(events.KindVM, id, 1, data)}}
	}
	all := []events.Decision{
		decided("ann", "create", "web", events.VMCreated{Name: "web", Account: "acc"}),
		decided("admin", "create", "theirs", events.VMCreated{Name: "theirs", Account: "other"}),
	}
	for range turns {
		all = append(all, decided("ann", "start", "web", events.VMRunWanted{Want: events.WantRunning}))
	}
	var l blocks
	for i, d := range all {
		l.all = append(l.all, &events.Block{Format: 1, Term: 1, First: uint64(i + 1), Time: time.Unix(int64(i), 0).UTC(), Decisions: []events.Decision{d}})
	}
	return l
}

func askHistory(t *testing.T, s *Service, subject, body string) wire.HistoryAnswer {
	t.Helper()
	ask := s.history
	if strings.HasSuffix(subject, ".why") {
		ask = s.why
	}
	return ask(t.Context(), &nats.Msg{Subject: subject, Data: []byte(body)}).(wire.HistoryAnswer)
}

func TestHistoryIsScoped(t *testing.T) {
	for name, c := range map[string]struct {
		subject, body, code string
		items               int
	}{
		"all, whole":             {"read.admin.log.history", `{"kind":"vm","id":"web"}`, "", 4},
		"own":                    {"read.ann.log.history", `{"kind":"vm","id":"web"}`, "", 4},
		"another's":              {"read.ann.log.history", `{"kind":"vm","id":"theirs"}`, events.CodeNotFound, 0},
		"not there":              {"read.ann.log.history", `{"kind":"vm","id":"nowhere"}`, events.CodeNotFound, 0},
		"why, own":               {"read.ann.log.why", `{"kind":"vm","id":"web"}`, "", 1},
		"why, another's object":  {"read.ann.log.why", `{"kind":"vm","id":"theirs"}`, events.CodeNotFound, 0},
		"why, another's number":  {"read.ann.log.why", `{"number":2}`, events.CodeNotFound, 0},
		"why, another's intent":  {"read.ann.log.why", `{"intent":"theirs-create"}`, events.CodeNotFound, 0},
		"why, of the platform":   {"read.guest.log.why", `{"number":2}`, "", 1},
		"no such user":           {"read.mallory.log.history", `{"kind":"vm","id":"web"}`, events.CodeUnauthorized, 0},
		"no such kind":           {"read.admin.log.history", `{"kind":"grant","id":"x"}`, events.CodeInvalid, 0},
		"no id":                  {"read.admin.log.history", `{"kind":"vm"}`, events.CodeInvalid, 0},
		"limit too large":        {"read.admin.log.history", `{"kind":"vm","id":"web","limit":1001}`, events.CodeInvalid, 0},
		"limit below":            {"read.admin.log.why", `{"number":1,"limit":-1}`, events.CodeInvalid, 0},
		"why nothing":            {"read.admin.log.why", `{}`, events.CodeInvalid, 0},
		"unknown field":          {"read.admin.log.why", `{"account":"acc"}`, events.CodeInvalid, 0},
		"behind the log":         {"read.admin.log.why", `{"number":99}`, events.CodeNotFound, 0},
		"a page behind the last": {"read.admin.log.history", `{"kind":"vm","id":"web","after":99}`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := service(t)
			s.cfg.Journal = webOf(3, nil)
			a := askHistory(t, s, c.subject, c.body)
			code := ""
			if a.Error != nil {
				code = a.Error.Code
			}
			if code != c.code || len(a.Items) != c.items || a.Items == nil {
				t.Errorf("got %q and %d items, want %q and %d: %+v", code, len(a.Items), c.code, c.items, a.Error)
			}
		})
	}
}

// TestHistoryComesInPages: pages hold at most the limit and at most what fits into one message, and together all.
func TestHistoryComesInPages(t *testing.T) {
	large := json.RawMessage(`{"vm":"` + strings.Repeat("x", 200<<10) + `"}`)
	huge := json.RawMessage(`{"vm":"` + strings.Repeat("x", 2<<20) + `"}`)
	for name, c := range map[string]struct {
		args  json.RawMessage
		limit int
		pages int
	}{"by number": {nil, 4, 3}, "one each": {nil, 1, 10}, "all at once": {nil, 1000, 1}, "by size": {large, 1000, 3}, "too large each": {huge, 1000, 1}} {
		t.Run(name, func(t *testing.T) {
			s, _ := service(t)
			s.cfg.Journal = webOf(9, c.args)
			var got, pages int
			for after := uint64(0); ; pages++ {
				a := askHistory(t, s, "read.ann.log.history", fmt.Sprintf(`{"kind":"vm","id":"web","limit":%d,"after":%d}`, c.limit, after))
				raw, err := json.Marshal(a)
				if err != nil || len(raw) > 1<<20 || a.Error != nil {
					t.Fatalf("%d bytes, %v, %+v", len(raw), err, a.Error)
				}
				if got += len(a.Items); a.Next == 0 {
					break
				}
				if a.Next <= after {
					t.Fatalf("the page after %d says next %d", after, a.Next)
				}
				after = a.Next
			}
			if pages++; got != 10 || pages != c.pages {
				t.Errorf("got %d decisions in %d pages, want 10 in %d", got, pages, c.pages)
			}
		})
	}
}

func TestHistoryOfALogThatCannotBeRead(t *testing.T) {
	s, _ := service(t)
	for want, err := range map[string]error{
		events.CodeConflict:    fmt.Errorf("block 3: %w", events.ErrBroken),
		events.CodeUnavailable: errors.New("no leader"),
	} {
		s.cfg.Journal = blocks{err: err}
		if a := askHistory(t, s, "read.admin.log.history", `{"kind":"vm","id":"web"}`); a.Error == nil || a.Error.Code != want {
			t.Errorf("%v: got %+v", err, a.Error)
		}
	}
	s.cfg.Journal = webOf(1, nil)
	s.scans.begin("ann")
	if a := askHistory(t, s, "read.ann.log.history", `{"kind":"vm","id":"web"}`); a.Error == nil || a.Error.Code != events.CodeBusy {
		t.Errorf("a second question of one user at a time: %+v", a.Error)
	}
	if a := askHistory(t, s, "read.admin.log.history", `{"kind":"vm","id":"web"}`); a.Error != nil {
		t.Errorf("another's question keeps the administrator out: %+v", a.Error)
	}
}
