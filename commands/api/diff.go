package api

import (
	"context"
	"encoding/json"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/read"

	"github.com/nats-io/nats.go"
)

// Differ is a Reader that can compare moments.
type Differ interface {
	Diff(ctx context.Context, u User, q wire.DiffRequest) wire.DiffAnswer
}

// diff answers what differs between two moments.
func (s *Service) diff(ctx context.Context, m *nats.Msg) any {
	var q wire.DiffRequest
	u, bad := s.question(m, &q)
	d, can := s.cfg.Reader.(Differ)
	switch {
	case bad != nil:
		return diffError(*bad)
	case !can:
		return diffError(refusal(events.CodeNotSupported, "the past cannot be asked here"))
	case (q.Kind == "") != (q.ID == ""):
		return diffError(refusal(events.CodeInvalid, "fields \"kind\" and \"id\" belong together"))
	case q.ID != "" && q.Account != "":
		return diffError(refusal(events.CodeInvalid, "field \"account\": want an object or an account, not both"))
	case !s.past.begin(u.Name):
		return diffError(refusal(events.CodeBusy, "a question of %s about the past is being answered already: ask again", u.Name))
	}
	defer s.past.end(u.Name)
	a := d.Diff(ctx, u, q)
	size := 0
	for i, item := range a.Items {
		raw, err := json.Marshal(item)
		if size += len(raw) + 1; err != nil || size > maxReadAnswer {
			if i == 0 { // by itself too large: tell that it differs
				a.Items[0].Fields = []read.ColumnDiff{}
				i = 1
			}
			last := a.Items[i-1]
			a.Items, a.Next = a.Items[:i], string(last.Kind)+"/"+last.ID
			break
		}
	}
	return a
}

func diffError(o events.Outcome) wire.DiffAnswer {
	return wire.DiffAnswer{Items: []read.RowDiff{}, Error: &o}
}
