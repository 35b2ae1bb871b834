package api

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/events/audit"
	"cloudengine/events/audit/keep"

	"github.com/nats-io/nats.go"
)

// maxExport is about how many bytes of blocks one answer holds; one block may be larger.
const maxExport = 1 << 20

// Raw is the log as it is stored.
type Raw interface {
	Last(ctx context.Context) (uint64, error)
	Payload(ctx context.Context, seq uint64) ([]byte, error)
}

// Auditing is what answers about the log's bytes.
type Auditing struct {
	Keeper *keep.Keeper
	Log    Raw
}

// auditHandlers are the endpoints that are there if the service has an Auditing.
func (s *Service) auditHandlers() map[string]handler {
	if s.cfg.Audit == nil {
		return nil
	}
	return map[string]handler{
		"read.*.log.head": s.head, "read.*.log.leaves": s.leaves, "read.*.log.prove": s.prove,
		"read.*.log.export": s.export, "read.*.log.audit": s.audit,
	}
}

// auditor reads a question about the log's bytes: of a user of the platform, or of an administrator of it.
func (s *Service) auditor(m *nats.Msg, into any, admin bool) *events.Outcome {
	u, bad := s.question(m, into)
	switch {
	case bad != nil:
		return bad
	case u.Account != "":
		o := refusal(events.CodeForbidden, "the log tells of all accounts: only users of the platform may ask for it")
		return &o
	case admin && u.Role != events.RoleAdmin:
		o := refusal(events.CodeForbidden, "this is for administrators of the platform")
		return &o
	}
	return nil
}

// noProof says why the log's bytes cannot be vouched for.
func noProof(err error) *events.Outcome {
	o := refusal(events.CodeUnavailable, "the log cannot be read now (%v): ask again", err)
	switch {
	case errors.Is(err, keep.ErrNoDecision):
		o = refusal(events.CodeNotFound, "%v", err)
	case errors.Is(err, keep.ErrDiverged), errors.Is(err, events.ErrBroken):
		o = refusal(events.CodeConflict, "%v", err)
	}
	return &o
}

func (s *Service) head(ctx context.Context, m *nats.Msg) any {
	if bad := s.auditor(m, &struct{}{}, false); bad != nil {
		return wire.HeadAnswer{Error: bad}
	}
	h, err := s.cfg.Audit.Keeper.Head(ctx)
	if err != nil {
		return wire.HeadAnswer{Error: noProof(err)}
	}
	return wire.HeadAnswer{Note: string(h.Note), Key: h.Key, Size: h.Size, Seq: h.Seq, Term: h.Term, Cloud: h.Cloud, Digest: h.Digest}
}

func (s *Service) leaves(ctx context.Context, m *nats.Msg) any {
	var q wire.LeavesRequest
	if bad := s.auditor(m, &q, false); bad != nil {
		return wire.LeavesAnswer{Error: bad}
	}
	if q.Limit == 0 {
		q.Limit = wire.MaxLeaves
	}
	if q.Limit < 0 || q.Limit > wire.MaxLeaves {
		o := refusal(events.CodeInvalid, "field \"limit\": want 1 to %d, or 0 for all of these", wire.MaxLeaves)
		return wire.LeavesAnswer{Error: &o}
	}
	raw, err := s.cfg.Audit.Keeper.Leaves(ctx, q.After, q.Limit)
	if err != nil {
		return wire.LeavesAnswer{Error: noProof(err)}
	}
	return wire.LeavesAnswer{Hashes: raw}
}

func (s *Service) prove(ctx context.Context, m *nats.Msg) any {
	var q wire.ProveRequest
	if bad := s.auditor(m, &q, false); bad != nil {
		return wire.ProveAnswer{Error: bad}
	}
	p, err := s.cfg.Audit.Keeper.Prove(ctx, q.Number, q.Size)
	if err != nil {
		return wire.ProveAnswer{Error: noProof(err)}
	}
	return wire.ProveAnswer{Proof: &p}
}

// export answers with blocks as they are stored.
func (s *Service) export(ctx context.Context, m *nats.Msg) any {
	var q wire.ExportRequest
	if bad := s.auditor(m, &q, true); bad != nil {
		return wire.ExportError{Error: bad}
	}
	last, err := s.cfg.Audit.Log.Last(ctx)
	if err != nil {
		return wire.ExportError{Error: noProof(err)}
	}
	out := &nats.Msg{Header: nats.Header{wire.HeaderLast: []string{strconv.FormatUint(last, 10)}}}
	for seq := q.After + 1; seq <= last && len(out.Data) < maxExport; seq++ {
		payload, err := s.cfg.Audit.Log.Payload(ctx, seq)
		if err != nil {
			return wire.ExportError{Error: noProof(err)}
		}
		if len(out.Data) > 0 && len(out.Data)+len(payload) > maxExport {
			break
		}
		out.Data = append(binary.BigEndian.AppendUint32(out.Data, uint32(len(payload))), payload...)
	}
	if err := m.RespondMsg(out); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.cfg.Log.Warn("answer request", "subject", m.Subject, "error", err)
	}
	return nil
}

// audit has the whole log checked as it is stored. One at a time, and not beside verify.
func (s *Service) audit(ctx context.Context, m *nats.Msg) any {
	var q wire.AuditRequest
	if bad := s.auditor(m, &q, true); bad != nil {
		return wire.AuditAnswer{Error: bad}
	}
	if !s.verifying.TryLock() {
		o := refusal(events.CodeBusy, "the log is being verified already: ask again later")
		return wire.AuditAnswer{Error: &o}
	}
	defer s.verifying.Unlock()
	var each func(*events.Block) []audit.Finding
	if q.Invariants {
		each = NewRules().Block
	}
	r, err := s.cfg.Audit.Keeper.Verify(ctx, each)
	if errors.Is(err, audit.ErrOtherCloud) {
		r.Findings = append(r.Findings, audit.Finding{What: audit.Unnamed, Message: err.Error()})
	} else if err != nil {
		return wire.AuditAnswer{Error: noProof(err)}
	}
	return wire.AuditAnswer{Report: r}
}

// Rules tells of each block which invariants of the platform it breaks.
type Rules struct {
	audit *commands.Audit
	told  int
}

// NewRules begins before the first block.
func NewRules() *Rules { return &Rules{audit: commands.NewAudit()} }

// Block takes the next block in. Numbers are not its matter: they are the chain's.
func (r *Rules) Block(b *events.Block) []audit.Finding {
	var out []audit.Finding
	for _, d := range b.Recorded() {
		r.audit.Add(d)
		for _, text := range r.audit.Broken()[r.told:] {
			out = append(out, audit.Finding{What: audit.Invariant, First: d.Number, Last: d.Number, Message: text})
		}
		r.told = len(r.audit.Broken())
	}
	return out
}
