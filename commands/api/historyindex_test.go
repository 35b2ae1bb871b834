package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/moment"

	"github.com/nats-io/nats.go"
)

// pagesOf asks for all of an object's history, forwards or backwards, and gives the decisions in the order of the log.
func pagesOf(t *testing.T, s *Service, user string, q wire.HistoryRequest) []string {
	t.Helper()
	var out []string
	for {
		body, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		a := s.history(t.Context(), &nats.Msg{Subject: wire.HistorySubject(user), Data: body}).(wire.HistoryAnswer)
		if a.Error != nil && a.Error.Code != events.CodeNotFound {
			t.Fatalf("%+v: %+v", q, a.Error)
		}
		var page []string
		for _, e := range a.Items {
			page = append(page, fmt.Sprintf("%d %s %s.%s %d %v", e.Number, e.Actor, e.Kind, e.Verb, len(e.Events), e.Withheld))
		}
		if q.Last > 0 {
			out = append(page, out...)
			if q.Before = a.Prev; q.Before == 0 {
				return out
			}
			continue
		}
		out = append(out, page...)
		if q.After = a.Next; q.After == 0 {
			return out
		}
	}
}

// TestIndexAndScanTellTheSame: an object's history is the same by the index and by reading the whole log, forwards and backwards.
func TestIndexAndScanTellTheSame(t *testing.T) {
	s, log := pastOf(t, 700)
	k := s.cfg.Moments
	objects := map[events.Ref]bool{}
	for i, r := range log.Recorded() {
		if i%7 == 0 {
			objects[events.Ref{Kind: events.KindOperation, ID: string(r.Intent)}] = true
		}
		for _, e := range r.Events {
			if slices.Contains(historyKinds, e.Aggregate.Kind) && (i%5 == 0 || e.Aggregate.Kind == events.KindHost) {
				objects[e.Aggregate] = true
			}
		}
	}
	told := 0
	for o := range objects {
		for _, user := range []string{"admin", "user0"} {
			want := []string(nil)
			for _, c := range []struct {
				index *moment.Keeper
				q     wire.HistoryRequest
			}{
				{nil, wire.HistoryRequest{Limit: 1000}}, {k, wire.HistoryRequest{Limit: 3}}, {k, wire.HistoryRequest{Last: 1000}}, {k, wire.HistoryRequest{Last: 4}}, {nil, wire.HistoryRequest{Last: 5}},
			} {
				s.cfg.Moments, c.q.Kind, c.q.ID = c.index, o.Kind, o.ID
				got := pagesOf(t, s, user, c.q)
				if c.index == nil && c.q.Limit == 1000 {
					want = got
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s for %s, %+v: %d decisions, want %d: %s", o, user, c.q, len(got), len(want), differ(got, want))
				}
			}
			told += len(want)
		}
	}
	if told < 500 {
		t.Fatalf("only %d decisions of %d objects", told, len(objects))
	}
}

func TestHistoryOfTheLast(t *testing.T) {
	s, log := pastOf(t, 300)
	host := ""
	for _, r := range log.Recorded() {
		for _, e := range r.Events {
			if e.Aggregate.Kind == events.KindHost {
				host = e.Aggregate.ID
			}
		}
	}
	ask := func(body string) wire.HistoryAnswer {
		return s.history(t.Context(), &nats.Msg{Subject: "read.admin.log.history", Data: []byte(body)}).(wire.HistoryAnswer)
	}
	all := ask(`{"kind":"host","id":"` + host + `","limit":1000}`)
	last := ask(`{"kind":"host","id":"` + host + `","last":2}`)
	if len(all.Items) < 4 || len(last.Items) != 2 || last.Items[1].Number != all.Items[len(all.Items)-1].Number || last.Prev != last.Items[0].Number {
		t.Fatalf("all %d, last %+v", len(all.Items), last)
	}
	for _, bad := range []string{`,"last":1001`, `,"last":-1`, `,"last":2,"after":3`, `,"last":2,"limit":3`, `,"before":3`} {
		if a := ask(`{"kind":"host","id":"` + host + `"` + bad + `}`); a.Error == nil || a.Error.Code != events.CodeInvalid {
			t.Errorf("%s: %+v", bad, a.Error)
		}
	}
}
