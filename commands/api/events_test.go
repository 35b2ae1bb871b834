package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/history"
	"cloudengine/projections/moment"
	"cloudengine/projections/projectionstest"

	"github.com/nats-io/nats.go"
)

// pastOf gives a service whose log is a random history, and user0 of its first account as "ann".
func pastOf(t *testing.T, steps int) (*Service, *projectionstest.Chain) {
	t.Helper()
	choose := rand.New(rand.NewPCG(11, 5)).IntN
	log := projectionstest.NewChain(projectionstest.New(choose, 3).Steps(steps).All(), func() int { return 1 + choose(7) })
	k, err := moment.Open(moment.Options{Dir: t.TempDir(), Log: log, Every: 150})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	for made := true; made; {
		if made, err = k.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := service(t)
	s.cfg.Journal, s.cfg.Moments = log, k
	account := ""
	for _, r := range log.Recorded() {
		if len(r.Events) > 0 && account == "" && r.Events[0].Type == "account.created.v1" {
			account = r.Events[0].Aggregate.ID
		}
	}
	s.cfg.Users = people{"admin": {"admin", events.RoleAdmin, ""}, "user0": {"user0", events.RoleOperate, events.AccountID(account)}}
	return s, log
}

func askEvents(t *testing.T, s *Service, user string, q wire.EventsRequest) wire.EventsAnswer {
	t.Helper()
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return s.events(t.Context(), &nats.Msg{Subject: wire.EventsSubject(user), Data: body}).(wire.EventsAnswer)
}

// seen lists what a user would be shown who reads the whole log, from a decision on.
func seen(log *projectionstest.Chain, scope *history.Scope, from uint64, want func(events.Event) bool) []string {
	var out []string
	for _, r := range log.Recorded() {
		e, ok := scope.See(r)
		for i, ev := range r.Events {
			if x := slices.IndexFunc(e.Events, func(x events.Event) bool { return x.Aggregate == ev.Aggregate && x.Version == ev.Version }); ok && x >= 0 && r.Number >= from && want(ev) {
				out = append(out, line(events.FeedMessage{Number: r.Number, Index: i, Actor: e.Actor, Reason: e.Reason, Event: e.Events[x]}))
			}
		}
	}
	return out
}

// line is all that a message tells.
func line(m events.FeedMessage) string {
	data, err := json.Marshal(m.Event.Data)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d.%d %s %s %q %s %s", m.Number, m.Index, m.Event.Aggregate, m.Actor, m.Reason, m.Event.Type, data)
}

// TestEventsInPages: from any place on, in pages of any size, a user is shown what he would be shown who read the log from its start.
func TestEventsInPages(t *testing.T) {
	s, log := pastOf(t, 900)
	last := log.Recorded()[len(log.Recorded())-1].Number
	choose := rand.New(rand.NewPCG(1, 2)).IntN
	account := s.cfg.Users.(people)["user0"].Account
	for i := range 40 {
		from := uint64(1 + choose(int(last)))
		user, scope := "admin", history.Everything()
		if i%2 == 0 {
			user, scope = "user0", history.Within("user0", account)
		}
		q, want := wire.EventsRequest{From: fmt.Sprint(from), Limit: 1 + choose(60)}, func(events.Event) bool { return true }
		if i%3 == 0 {
			q.Kind = events.KindVM
			want = func(e events.Event) bool { return e.Aggregate.Kind == events.KindVM }
		}
		expect, got := seen(log, scope, from, want), []string{}
		for {
			a := askEvents(t, s, user, q)
			if a.Error != nil {
				t.Fatalf("%+v: %+v", q, a.Error)
			}
			for _, m := range a.Items {
				got = append(got, line(m))
			}
			if q.From, q.Index = fmt.Sprint(a.Next), a.Index; a.End {
				if a.Next != last+1 {
					t.Fatalf("the end is after decision %d, want %d", a.Next-1, last)
				}
				break
			}
		}
		if !slices.Equal(got, expect) {
			t.Fatalf("%s from %d: %d events, want %d: %s", user, from, len(got), len(expect), differ(got, expect))
		}
	}
}

func differ(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%q, want %q", a[i], b[i])
		}
	}
	return "one ends early"
}

func TestEventsFromWhere(t *testing.T) {
	s, log := pastOf(t, 200)
	all := log.Recorded()
	last := all[len(all)-1]
	for from, c := range map[string]struct {
		code string
		next uint64
	}{
		"now": {"", last.Number + 1}, fmt.Sprint(last.Number + 1): {"", last.Number + 1}, fmt.Sprint(last.Number + 2): {events.CodeInvalid, 0}, "": {events.CodeInvalid, 0},
		"yesterday": {events.CodeInvalid, 0}, "0": {events.CodeInvalid, 0}, "2000-01-01T00:00:00Z": {events.CodeInvalid, 0},
	} {
		a := askEvents(t, s, "admin", wire.EventsRequest{From: from, Limit: 1000})
		code := ""
		if a.Error != nil {
			code = a.Error.Code
		}
		if code != c.code || a.Next != c.next {
			t.Errorf("from %q: %q, next %d; want %q, next %d: %+v", from, code, a.Next, c.code, c.next, a.Error)
		}
	}
	at := all[len(all)/2].Time
	a := askEvents(t, s, "admin", wire.EventsRequest{From: at.Format("2006-01-02T15:04:05.999999999Z"), Limit: 1})
	first := slices.IndexFunc(all, func(r events.Recorded) bool { return !r.Time.Before(at) })
	if a.Error != nil || len(a.Items) == 0 || a.Items[0].Number < all[first].Number {
		t.Errorf("from the time of decision %d: %+v", all[first].Number, a)
	}
	for _, q := range []wire.EventsRequest{{From: "1", Limit: 1001}, {From: "1", Index: -1}, {From: "1", ID: "x"}} {
		if a := askEvents(t, s, "admin", q); a.Error == nil || a.Error.Code != events.CodeInvalid {
			t.Errorf("%+v: %+v", q, a.Error)
		}
	}
	if a := askEvents(t, s, "mallory", wire.EventsRequest{From: "1"}); a.Error == nil || a.Error.Code != events.CodeUnauthorized {
		t.Errorf("nobody: %+v", a.Error)
	}
}
