package api

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/history"

	"github.com/nats-io/nats.go"
)

// maxScans is how many questions may read the log at a time; each reads it from its start.
const maxScans = 3

// scans lets each user read the log once at a time, so that one cannot keep the others out.
type scans struct {
	mu sync.Mutex
	by map[string]bool
}

func (s *scans) begin(user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[user] || len(s.by) >= maxScans {
		return false
	}
	if s.by == nil {
		s.by = map[string]bool{}
	}
	s.by[user] = true
	return true
}

func (s *scans) end(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, user)
}

// historyKinds are the kinds of objects that have a history.
var historyKinds = []events.Kind{events.KindVM, events.KindMachine, events.KindHost, events.KindTemplate, events.KindAccount, events.KindOperation,
	events.KindBootimage, events.KindDiscovered, events.KindUser, events.KindSecret, events.KindServer, events.KindLog, events.KindFabric, events.KindDisk,
	events.KindPool, events.KindArray, events.KindVolume, events.KindNetwork, events.KindSubnet, events.KindNIC}

// errEnough ends the reading of the log early.
var errEnough = errors.New("that is enough of the log")

// page is an answer in the making.
type page struct {
	wire.HistoryAnswer
	limit, size int
}

func newPage(limit int) *page {
	if limit == 0 {
		limit = 100
	}
	return &page{HistoryAnswer: wire.HistoryAnswer{Items: []history.Entry{}}, limit: limit}
}

// add takes one more decision; errEnough: the page is full, and the decision belongs to the next.
func (p *page) add(e history.Entry) error {
	var size int
	e.Slim(func(e *history.Entry) bool {
		raw, err := json.Marshal(e)
		size = len(raw) + 1
		return err == nil && size <= maxReadAnswer
	})
	if n := len(p.Items); n > 0 && (n == p.limit || p.size+size > maxReadAnswer) {
		p.Next = p.Items[n-1].Number
		return errEnough
	}
	p.Items, p.size = append(p.Items, e), p.size+size
	return nil
}

// history answers what happened to one object.
func (s *Service) history(ctx context.Context, m *nats.Msg) any {
	var q wire.HistoryRequest
	u, bad := s.question(m, &q)
	switch {
	case bad != nil:
		return historyError(*bad)
	case !slices.Contains(historyKinds, q.Kind):
		return historyError(refusal(events.CodeInvalid, "field \"kind\": want one of %v", historyKinds))
	case q.ID == "":
		return historyError(refusal(events.CodeInvalid, "field \"id\": want the id of an object"))
	case q.Limit < 0 || q.Limit > 1000:
		return historyError(refusal(events.CodeInvalid, "field \"limit\": want 1 to 1000, or 0 for 100"))
	case q.Last < 0 || q.Last > 1000 || q.Last > 0 && (q.After > 0 || q.Limit > 0) || q.Last == 0 && q.Before > 0:
		return historyError(refusal(events.CodeInvalid, "field \"last\": want 1 to 1000, with \"before\" or alone"))
	}
	object := events.Ref{Kind: q.Kind, ID: q.ID}
	p, err := s.about(ctx, u, object, q)
	if err != nil {
		return historyError(unread(err))
	}
	if len(p.Items) == 0 && q.After == 0 && q.Before == 0 {
		return historyError(refusal(events.CodeNotFound, "the log tells nothing of %s that is for you to see", object))
	}
	return p.HistoryAnswer
}

// why answers what led to a decision and what followed from it. The log is read twice: to find the chain, and to fetch it.
func (s *Service) why(ctx context.Context, m *nats.Msg) any {
	var q wire.WhyRequest
	u, bad := s.question(m, &q)
	object := events.Ref{Kind: q.Kind, ID: q.ID}
	switch {
	case bad != nil:
		return historyError(*bad)
	case q.Number == 0 && q.Intent == "" && (q.Kind == "" || q.ID == ""):
		return historyError(refusal(events.CodeInvalid, "want a number, or an intent, or kind and id of an object"))
	case q.Limit < 0 || q.Limit > 1000:
		return historyError(refusal(events.CodeInvalid, "field \"limit\": want 1 to 1000, or 0 for 100"))
	}
	chain := history.NewChain(history.Target{Number: q.Number, Intent: q.Intent, Object: object})
	p := newPage(q.Limit)
	err := s.scan(ctx, u, func(e history.Entry) error {
		p.Applied = e.Number
		chain.Add(&e)
		return nil
	})
	if err == nil && chain.Found() == 0 {
		return historyError(refusal(events.CodeNotFound, "there is no such decision in the log that is for you to see"))
	}
	if err == nil {
		p.Target = chain.Found()
		err = s.fetch(ctx, u, chain.Numbers(), q.After, p)
	}
	if err != nil {
		return historyError(unread(err))
	}
	return p.HistoryAnswer
}

// fetch fills a page with decisions after one, and their links.
func (s *Service) fetch(ctx context.Context, u User, numbers map[uint64]bool, after uint64, p *page) error {
	linker, left := history.NewLinker(), len(numbers)
	return s.scan(ctx, u, func(e history.Entry) error {
		e.From = linker.Add(&e)
		if !numbers[e.Number] {
			return nil
		}
		if left--; e.Number > after {
			if err := p.add(e); err != nil {
				return err
			}
		}
		if left == 0 {
			return errEnough
		}
		return nil
	})
}

// question finds who asks, and reads what is asked.
func (s *Service) question(m *nats.Msg, into any) (User, *events.Outcome) {
	fail := func(o events.Outcome) (User, *events.Outcome) { return User{}, &o }
	actor, _, _, err := events.SplitDo(m.Subject)
	if err != nil {
		return fail(refusal(events.CodeInvalid, "%v", err))
	}
	u, ok := s.cfg.Users.User(actor)
	if !ok {
		return fail(refusal(events.CodeUnauthorized, "there is no user %q", actor))
	}
	if !s.limits.allow(actor, s.cfg.ActorRate) {
		return fail(refusal(events.CodeBusy, "more than %s requests of %s: ask again", perSecond(s.cfg.ActorRate), actor))
	}
	if err := strict(m.Data, into); err != nil {
		return fail(refusal(events.CodeInvalid, "%v", err))
	}
	return u, nil
}

// errBusy says that too many questions read the log already.
var errBusy = errors.New("the log is being read for you, or for too many others, already")

// scan shows f all of the log that a user may see, from its start; errEnough from f ends it.
func (s *Service) scan(ctx context.Context, u User, f func(history.Entry) error) error {
	if !s.scans.begin(u.Name) {
		return errBusy
	}
	defer s.scans.end(u.Name)
	scope := history.Everything()
	if u.Account != "" {
		scope = history.Within(u.Name, u.Account)
	}
	_, err := s.cfg.Journal.Load(ctx, events.Position{}, func(_ events.Position, b *events.Block) error {
		for _, r := range b.Recorded() {
			if e, ok := scope.See(r); ok {
				if err := f(e); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// unread says why the log could not be read.
func unread(err error) events.Outcome {
	switch {
	case errors.Is(err, errBusy):
		return refusal(events.CodeBusy, "%v: ask again", err)
	case errors.Is(err, events.ErrBroken):
		return refusal(events.CodeConflict, "%v: see what \"verify\" says", err)
	}
	return refusal(events.CodeUnavailable, "the log cannot be read now (%v): ask again", err)
}

func historyError(o events.Outcome) wire.HistoryAnswer {
	return wire.HistoryAnswer{Items: []history.Entry{}, Error: &o}
}
