package read

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/moment"
)

// Past finds moments. moment.Keeper is one.
type Past interface {
	At(ctx context.Context, text string) (*moment.Moment, error)
}

// SetPast lets questions name a moment of the past. It must be called before the first question.
func (r *Reader) SetPast(p Past) { r.past = p }

// source answers a question in some way.
type source func(ctx context.Context, m *projections.Model, ask question) (events.ReadAnswer, error)

// source gives what answers: the database, or the moment that was asked for.
func (r *Reader) source(ctx context.Context, q events.ReadRequest) (source, error) {
	if q.At == "" {
		return r.query, nil
	}
	m, err := r.momentOf(ctx, "at", q.At)
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, model *projections.Model, ask question) (events.ReadAnswer, error) {
		answer, err := pick(m, model, ask)
		if err != nil {
			err = pastError(err)
		}
		return answer, err
	}, nil
}

// momentOf finds the moment that a field of a question names.
func (r *Reader) momentOf(ctx context.Context, field, at string) (*moment.Moment, error) {
	if r.past == nil {
		return nil, no(events.CodeNotSupported, "field %q: the past cannot be asked here", field)
	}
	m, err := r.past.At(ctx, at)
	if errors.Is(err, moment.ErrNoMoment) {
		return nil, no(events.CodeInvalid, "field %q: %s", field, strings.TrimPrefix(err.Error(), moment.ErrNoMoment.Error()+": "))
	}
	if err != nil {
		return nil, pastError(err)
	}
	return m, nil
}

// pastError tells what is wrong with the question from what is wrong here.
func pastError(err error) error {
	switch {
	case errors.Is(err, moment.ErrNoMoment):
		return no(events.CodeInvalid, "%s", strings.TrimPrefix(err.Error(), moment.ErrNoMoment.Error()+": "))
	case errors.Is(err, moment.ErrNotYet):
		return no(events.CodeUnavailable, "%v: ask again", err)
	case errors.Is(err, events.ErrBroken):
		return no(events.CodeConflict, "%v: see what \"verify\" says", err)
	}
	return err
}

// pick reads the rows of a moment, as query reads those of the database.
func pick(at *moment.Moment, m *projections.Model, ask question) (events.ReadAnswer, error) {
	answer := events.ReadAnswer{Applied: at.Number(), Items: []json.RawMessage{}}
	take := func(row any) error {
		if row == nil || !ask.where.sees(m, row) || len(answer.Items) == ask.limit {
			return nil
		}
		item, err := json.Marshal(ask.shown(m, row))
		if err != nil {
			return fmt.Errorf("encode row of %s: %w", m.Table.Name, err)
		}
		answer.Items = append(answer.Items, item)
		return nil
	}
	switch {
	case ask.by.id != "":
		row, err := at.Get(m.Table, ask.by.id)
		if err == nil {
			err = take(row)
		}
		return answer, err
	case ask.by.name != "":
		rows, err := at.Named(m, ask.by.name)
		for _, row := range rows {
			if err == nil {
				err = take(row)
			}
		}
		return answer, err
	}
	return answer, at.Scan(m.Table, max(ask.by.begin, ask.after), ask.where.needles, func(id string, row any) (bool, error) {
		if id > ask.after || ask.after == "" {
			if err := take(row); err != nil {
				return false, err
			}
		}
		return len(answer.Items) < ask.limit && strings.HasPrefix(id, ask.by.begin), nil
	})
}
