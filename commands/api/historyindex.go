package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/history"
	"cloudengine/projections/moment"
)

// blockReader is a Log that gives single blocks.
type blockReader interface {
	Payload(ctx context.Context, seq uint64) ([]byte, error)
}

// about fills a page with the decisions about an object: by the index of the snapshots, or, for who may not see all of the log, and while
// the snapshots are being made, by reading the log from its start.
func (s *Service) about(ctx context.Context, u User, object events.Ref, q wire.HistoryRequest) (*page, error) {
	limit := q.Limit
	if q.Last > 0 {
		limit = q.Last
	}
	p := newPage(limit)
	done, err := s.byIndex(ctx, u, object, q, p)
	if err == nil && !done {
		err = s.byScan(ctx, u, object, q, p)
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	if q.Last > 0 {
		p.Prev, p.Next = p.Next, 0
		slices.Reverse(p.Items)
	}
	return p, err
}

// byScan reads the log from its start.
func (s *Service) byScan(ctx context.Context, u User, object events.Ref, q wire.HistoryRequest, p *page) error {
	var last []history.Entry
	err := s.scan(ctx, u, func(e history.Entry) error {
		p.Applied = max(p.Applied, e.Number)
		switch {
		case e.Number <= q.After || !e.About(object) || q.Before > 0 && e.Number >= q.Before:
			return nil
		case q.Last == 0:
			return p.add(e)
		}
		if last = append(last, e); len(last) > 2*(q.Last+1) {
			last = slices.Clone(last[len(last)-q.Last-1:])
		}
		return nil
	})
	for i := len(last) - 1; i >= 0 && err == nil; i-- {
		err = p.add(last[i])
	}
	return err
}

// byIndex reads only the blocks that hold what is wanted; not done: there is no index now, or it is not for this user.
func (s *Service) byIndex(ctx context.Context, u User, object events.Ref, q wire.HistoryRequest, p *page) (done bool, err error) {
	log, can := s.cfg.Journal.(blockReader)
	if s.cfg.Moments == nil || !can || u.Account != "" {
		return false, nil
	}
	if !s.past.begin(u.Name) {
		return true, errBusy
	}
	defer s.past.end(u.Name)
	m, err := s.cfg.Moments.At(ctx, "now")
	var places []moment.Place
	if err == nil {
		places, err = wanted(m, object, q)
	}
	if errors.Is(err, moment.ErrNotYet) || errors.Is(err, moment.ErrNoMoment) {
		return false, ctx.Err()
	}
	if err != nil {
		return false, err
	}
	p.Applied = m.Number()
	if q.Last == 0 {
		slices.Reverse(places)
	}
	var b *events.Block
	for _, at := range places {
		if b == nil || at.Number < b.First || at.Number > b.Last() {
			if b, err = blockAt(ctx, log, at); err != nil {
				return true, err
			}
		}
		e, ok := history.Everything().See(b.Recorded()[at.Number-b.First])
		if ok && e.About(object) {
			if err := p.add(e); err != nil {
				return true, err
			}
		}
	}
	return true, nil
}

// wanted gives the places of what a page can hold, the last first.
func wanted(m *moment.Moment, object events.Ref, q wire.HistoryRequest) ([]moment.Place, error) {
	var out []moment.Place
	err := m.About(object.String(), func(at moment.Place) (bool, error) {
		if at.Number <= q.After {
			return false, nil
		}
		if q.Before == 0 || at.Number < q.Before {
			out = append(out, at)
		}
		return q.Last == 0 || len(out) <= q.Last, nil // one more tells whether there are earlier ones
	})
	return out, err
}

func blockAt(ctx context.Context, log blockReader, at moment.Place) (*events.Block, error) {
	payload, err := log.Payload(ctx, at.Seq)
	if err != nil {
		return nil, err
	}
	b, err := events.DecodeBlock(payload)
	if err == nil && (at.Number < b.First || at.Number > b.Last()) {
		err = fmt.Errorf("decision %d is not in it", at.Number)
	}
	if err != nil {
		return nil, fmt.Errorf("read block at sequence %d: %w: %w", at.Seq, err, events.ErrBroken)
	}
	return b, nil
}
