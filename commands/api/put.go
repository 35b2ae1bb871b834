package api

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// rank orders the roles; each may do what the ones before it may.
var rank = map[string]int{events.RoleRead: 1, events.RoleOperate: 2, events.RoleAdmin: 3}

// who finds the user of put.<actor>.… or console.<actor>.…, who must have at least the role.
func (s *Service) who(subject, role string) (User, *events.Outcome) {
	p := strings.Split(subject, ".")
	if len(p) != 3 {
		o := refusal(events.CodeInvalid, "subject %q: want three tokens", subject)
		return User{}, &o
	}
	u, ok := s.cfg.Users.User(p[1])
	if !ok {
		o := refusal(events.CodeUnauthorized, "there is no user %q", p[1])
		return User{}, &o
	}
	if rank[u.Role] < rank[role] {
		o := refusal(events.CodeForbidden, "this needs the role %s; %s has %s", role, u.Name, u.Role)
		return User{}, &o
	}
	if !s.limits.allow(u.Name, s.cfg.ActorRate) {
		o := refusal(events.CodeBusy, "more than %s requests of %s: ask again", perSecond(s.cfg.ActorRate), u.Name)
		return User{}, &o
	}
	return u, nil
}

// putBlob takes one chunk of a blob, or, without bytes, says how much of it is there.
func (s *Service) putBlob(_ context.Context, m *nats.Msg) any {
	if _, bad := s.who(m.Subject, events.RoleOperate); bad != nil {
		return wire.BlobAnswer{Error: bad}
	}
	digest := m.Header.Get(wire.HeaderSHA256)
	total, err1 := strconv.ParseInt(m.Header.Get(wire.HeaderTotal), 10, 64)
	offset, err2 := strconv.ParseInt(m.Header.Get(wire.HeaderOffset), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		o := refusal(events.CodeInvalid, "headers %s and %s: want whole numbers", wire.HeaderTotal, wire.HeaderOffset)
		return wire.BlobAnswer{SHA256: digest, Error: &o}
	}
	if len(m.Data) > events.MaxRequest {
		o := refusal(events.CodeInvalid, "the chunk has %d bytes; at most %d are taken", len(m.Data), events.MaxRequest)
		return wire.BlobAnswer{SHA256: digest, Error: &o}
	}
	at, done, err := s.cfg.Blobs.Write(digest, total, offset, m.Data)
	if err != nil {
		code := events.CodeUnavailable
		switch {
		case errors.Is(err, ErrBlob):
			code = events.CodeInvalid
		case errors.Is(err, ErrRoom):
			code = events.CodeNoCapacity
		default:
			s.cfg.Log.Error("store blob", "sha256", digest, "error", err)
		}
		o := refusal(code, "%v", err)
		return wire.BlobAnswer{SHA256: digest, Offset: at, Error: &o}
	}
	return wire.BlobAnswer{SHA256: digest, Offset: at, Done: done}
}

// putSecret seals a value and makes the intent that records its fingerprint. The value becomes the secret's once that is stored.
func (s *Service) putSecret(ctx context.Context, m *nats.Msg) any {
	u, bad := s.who(m.Subject, events.RoleAdmin)
	if bad != nil {
		return events.Answer{Outcome: *bad}
	}
	var r wire.SecretRequest
	if err := strict(m.Data, &r); err != nil {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	s.secrets.Lock() // what is decided last is what is used
	defer s.secrets.Unlock()
	fingerprint, err := s.cfg.Secrets.Seal(r.Name, r.Value)
	if errors.Is(err, ErrSecret) {
		return events.Answer{ID: r.ID, Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	if err != nil {
		s.cfg.Log.Error("seal secret", "name", r.Name, "error", err)
		return events.Answer{ID: r.ID, Outcome: refusal(events.CodeUnavailable, "the value could not be stored")}
	}
	args, err := json.Marshal(map[string]string{"name": r.Name, "fingerprint": fingerprint})
	if err != nil {
		return events.Answer{ID: r.ID, Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	a := s.submit(ctx, commands.Command{
		Intent: r.ID, Actor: u.Name, Kind: events.KindSecret, Verb: "set", Args: args, Reason: r.Reason,
	}, false)
	if a.Outcome.Status == events.Refused {
		return a
	}
	if err := s.cfg.Secrets.Use(r.Name, fingerprint); err != nil {
		s.cfg.Log.Error("store secret", "name", r.Name, "error", err)
		return events.Answer{ID: r.ID, Outcome: refusal(events.CodeUnavailable, "the value could not be stored")}
	}
	return a
}
