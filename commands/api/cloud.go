package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cloudengine/commands/api/verifier"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// Verifier holds the cloud against its log.
type Verifier interface {
	Run(ctx context.Context, sections []string) (wire.CloudVerifyAnswer, error)
	Progress() wire.VerifyProgress
}

// Bounds of a verification, in seconds.
const (
	verifyUsual = 300
	verifyMost  = 600
)

// verifyWait is how long one request waits for the end of a verification: the bus forgets who asked after two minutes.
const verifyWait = 60 * time.Second

// verification is one run. answer may be read once done is closed.
type verification struct {
	id     string
	done   chan struct{}
	answer wire.CloudVerifyAnswer
}

// verifyCloud gives the handler that begins a verification, or goes on waiting for one, until base ends or for so long. One runs at a time.
func (s *Service) verifyCloud(base context.Context, longest time.Duration) handler {
	return func(ctx context.Context, m *nats.Msg) any {
		fail := func(o events.Outcome) any { return wire.CloudVerifyAnswer{Error: &o} }
		if bad := s.operator(m.Subject); bad != nil {
			return fail(*bad)
		}
		var q wire.CloudVerifyRequest
		if err := strict(m.Data, &q); err != nil {
			return fail(refusal(events.CodeInvalid, "%v", err))
		}
		v, bad := s.verification(base, q)
		if bad != nil {
			return fail(*bad)
		}
		wait := time.NewTimer(longest)
		defer wait.Stop()
		select {
		case <-v.done:
			return v.answer
		case <-wait.C:
			return wire.CloudVerifyAnswer{Run: v.id, Running: true}
		case <-ctx.Done():
			return fail(refusal(events.CodeUnavailable, "the server stops deciding: ask again"))
		}
	}
}

// verification finds the one that is asked for, or begins one.
func (s *Service) verification(base context.Context, q wire.CloudVerifyRequest) (*verification, *events.Outcome) {
	fail := func(code, format string, a ...any) (*verification, *events.Outcome) {
		o := refusal(code, format, a...)
		return nil, &o
	}
	s.mu.Lock()
	last := s.verified
	s.mu.Unlock()
	if q.Run != "" {
		if last == nil || last.id != q.Run {
			return fail(events.CodeNotFound, "verification %.40q is not known any more: begin another", q.Run)
		}
		return last, nil
	}
	if q.TimeoutS == 0 {
		q.TimeoutS = verifyUsual
	}
	if q.TimeoutS < 1 || q.TimeoutS > verifyMost {
		return fail(events.CodeInvalid, "field \"timeout_s\": want 1 to %d, or 0 for %d", verifyMost, verifyUsual)
	}
	if len(q.Sections) == 0 {
		q.Sections = verifier.Default
	}
	for _, name := range q.Sections {
		if !verifier.Known(name) {
			return fail(events.CodeInvalid, "field \"sections\": want log, rows, desired, hosts, files or power, not %.40q", name)
		}
	}
	if !s.verifying.TryLock() {
		return fail(events.CodeBusy, "a verification is under way already: ask again later")
	}
	v := &verification{id: uuid.NewString(), done: make(chan struct{})}
	s.mu.Lock()
	s.verified = v
	s.mu.Unlock()
	s.running.Go(func() {
		defer s.verifying.Unlock()
		defer close(v.done)
		ctx, cancel := context.WithTimeout(base, time.Duration(q.TimeoutS)*time.Second)
		defer cancel()
		v.run(ctx, s.cfg.Verifier, q.Sections)
	})
	return v, nil
}

func (v *verification) run(ctx context.Context, with Verifier, sections []string) {
	a, err := with.Run(ctx, sections)
	if err != nil {
		o := refusal(events.CodeUnavailable, "the log could not be read (%v): ask again", err)
		a = wire.CloudVerifyAnswer{Error: &o}
	}
	v.answer = fitFindings(a)
	v.answer.Run = v.id
}

// operator lets operators and administrators of the platform through.
func (s *Service) operator(subject string) *events.Outcome {
	u, bad := s.who(strings.TrimSuffix(subject, subject[strings.LastIndexByte(subject, '.'):]), events.RoleOperate)
	if bad == nil && u.Account != "" {
		o := refusal(events.CodeForbidden, "this tells of all accounts: it is for operators of the platform")
		bad = &o
	}
	return bad
}

// fitFindings leaves out the last findings, which are the least, if the answer would not fit into one message.
func fitFindings(a wire.CloudVerifyAnswer) wire.CloudVerifyAnswer {
	size := 0
	for i, f := range a.Findings {
		raw, err := json.Marshal(f)
		if size += len(raw) + 1; err != nil || size > maxReadAnswer {
			a.More += len(a.Findings) - i
			a.Findings = a.Findings[:i]
			break
		}
	}
	return a
}

// verifyProgress tells how far the verification is that runs.
func (s *Service) verifyProgress(_ context.Context, m *nats.Msg) any {
	if bad := s.operator(m.Subject); bad != nil {
		return wire.VerifyProgress{Error: bad}
	}
	return s.cfg.Verifier.Progress()
}

// AskHost asks a machine's agent live. The machine can lie only about itself.
func AskHost(ctx context.Context, bus *nats.Conn, m events.MachineID, q wire.InspectRequest) (wire.InspectAnswer, error) {
	var a wire.InspectAnswer
	q.Host = "" // whom it is sent to
	body, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("encode question: %w", err)
	}
	reply, err := bus.RequestWithContext(ctx, events.MachineRequestSubject(m, "inspect"), body)
	if err != nil {
		return a, fmt.Errorf("ask host %s: %w", m, err)
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer of host %s: %w", m, err)
	}
	a.Host = m
	return a, nil
}
