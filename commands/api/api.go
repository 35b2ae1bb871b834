// Package api is the door of the control plane on the bus: it answers do., read., put., console. and rep. (see DESIGN.md) in the
// bus account of the control plane, while its server is the active one.
//
// It promises that every request is answered or was never taken, that nothing larger than its limit or malformed goes further, that
// the actor is the one of the subject (which the bus binds to the sender), and that tokens and values of secrets go no further than
// here. It decides nothing, stores no intent itself, and keeps no rule but limits and the roles for what never becomes an intent.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/moment"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"
)

// Decider is the ordered loop. Submit returns after the decision was stored, or, for a dry run, at once with what would follow.
type Decider interface {
	Submit(ctx context.Context, c commands.Command, dryRun bool) (events.Answer, error)
}

// User is what the door needs to know of who asks.
type User struct {
	Name    string
	Role    string
	Account events.AccountID // empty: all accounts
}

// Users finds users that are not revoked.
type Users interface {
	User(name string) (User, bool)
}

// Reader answers questions from the read models, scoped to what the user may see.
type Reader interface {
	Get(ctx context.Context, u User, kind events.Kind, q events.ReadRequest) events.ReadAnswer
	List(ctx context.Context, u User, kind events.Kind, q events.ReadRequest) events.ReadAnswer
}

// Config holds what a Service works with. All fields but the limits are needed.
type Config struct {
	Bus     *nats.Conn // in the account of the control plane; not closed here
	Decider Decider
	Users   Users
	Reader  Reader
	Journal Log
	Blobs   *Blobs

	Consoles *Consoles // nil: the ends of consoles are not kept
	Secrets  *Secrets
	Log      *slog.Logger

	Serial MachineConsoles // of machines; nil: none is opened here

	Verifier Verifier // holds the cloud against its log

	Audit *Auditing // nil: no question about the log's bytes is answered

	LogStatus func() wire.LogStatus // must be quick

	Alerts func() Alerts // nil: no alerts are answered; what it gives is nil while the book is not open

	Moments *moment.Keeper // nil: questions about the past that need it are refused

	Projections Projections // nil: there are no read models to look after

	ActorRate   rate.Limit // requests per second of one user; 0 = 20000
	MachineRate rate.Limit // of one machine; 0 = 200
	InFlight    int        // requests under way at a time; 0 = 8192
}

// Service answers on the bus between Open and Close.
type Service struct {
	cfg     Config
	limits  *limits
	gate    *gate
	slots   chan struct{}
	running sync.WaitGroup
	secrets sync.Mutex // held while a secret gets a value

	verifying sync.Mutex
	scans     scans
	verified  *verification // the last one; guarded by mu
	past      turns

	mu     sync.Mutex
	subs   []*nats.Subscription
	cancel context.CancelFunc
}

// requestTime bounds how long one request is worked on. Clients ask again with the same id.
const requestTime = 10 * time.Second

func timeOf(subject string) time.Duration {
	if strings.Contains(subject, ".log.") || strings.HasSuffix(subject, ".cloud.verify") { // they read the log
		return verifyTime
	}
	return requestTime
}

// New makes a Service that answers nothing yet.
func New(cfg Config) *Service {
	if cfg.ActorRate == 0 {
		cfg.ActorRate = 20000
	}
	if cfg.MachineRate == 0 {
		cfg.MachineRate = 200
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = 8192
	}
	return &Service{cfg: cfg, limits: newLimits(), gate: newGate(), slots: make(chan struct{}, cfg.InFlight)}
}

// handler works on one request and gives the body of its answer; nil: there is none.
type handler func(ctx context.Context, m *nats.Msg) any

// Open begins to answer. It may be called again after Close; a second Open changes nothing.
func (s *Service) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for subject, h := range map[string]handler{
		"do.*.*.*":           s.do,
		"read.*.*.get":       s.read,
		"read.*.*.list":      s.read,
		"put.*.blob":         s.putBlob,
		"put.*.secret":       s.putSecret,
		"console.*.vm":       s.console,
		"console.*.host":     s.inspect,
		"console.*.machine":  s.machineConsole,
		"rep.*.enrol":        s.enrol,
		"rep.*.state":        s.report,
		"rep.*.storage":      s.reportStorage,
		"rep.*.console":      s.takeConsole,
		"read.*.log.verify":  s.verify,
		"read.*.log.status":  s.logStatus,
		"read.*.log.history": s.history,
		"read.*.log.why":     s.why,
		"read.*.log.diff":    s.diff,
		"read.*.log.events":  s.events,
		"own.*.*.*":          s.own,

		"read.*.cloud.verify":   s.verifyCloud(ctx, verifyWait),
		"read.*.cloud.progress": s.verifyProgress,

		"read.*.projection.status": s.projectionStatus,
		"read.*.projection.parked": s.parked,
		"put.*.projection":         s.projection,
	} {
		if d, ok := s.cfg.Decider.(asyncDecider); ok && subject == "do.*.*.*" {
			if err := s.subscribeIntents(ctx, d); err != nil {
				s.closeLocked()
				return err
			}
			continue
		}
		if err := s.subscribe(ctx, subject, h); err != nil {
			s.closeLocked()
			return err
		}
	}
	for subject, h := range s.auditHandlers() {
		if err := s.subscribe(ctx, subject, h); err != nil {
			s.closeLocked()
			return err
		}
	}
	for subject, h := range s.alertHandlers() {
		if err := s.subscribe(ctx, subject, h); err != nil {
			s.closeLocked()
			return err
		}
	}
	if err := s.cfg.Bus.Flush(); err != nil {
		s.closeLocked()
		return fmt.Errorf("open bus endpoints: %w", err)
	}
	return nil
}

func (s *Service) subscribe(ctx context.Context, subject string, h handler) error {
	sub, err := s.cfg.Bus.Subscribe(subject, func(m *nats.Msg) {
		if m.Reply == "" {
			return // nobody would hear the outcome; an intent without an answer is not acknowledged
		}
		leave, ok := s.admit(m.Subject, func(text string) { s.answer(m, busyAnswer(m.Subject, text)) })
		if !ok {
			return
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.answer(m, busyAnswer(m.Subject, "the server has too many requests under way: ask again with the same id"))
			leave(nil)
			return
		}
		s.running.Go(func() {
			defer func() { <-s.slots }()
			ctx, cancel := context.WithTimeout(ctx, timeOf(subject))
			defer cancel()
			a := h(ctx, m)
			leave(a)
			s.answer(m, a)
		})
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	s.subs = append(s.subs, sub)
	return sub.SetPendingLimits(-1, 256<<20)
}

// Close takes no more requests and waits for those under way, but not for intents: the Decider answers each of them, perhaps later.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *Service) closeLocked() {
	if s.cancel == nil {
		return
	}
	for _, sub := range s.subs {
		_ = sub.Unsubscribe() // the only error is that the connection is closed
	}
	s.subs = nil
	s.cancel()
	s.cancel = nil
	s.running.Wait()
}

func (s *Service) answer(m *nats.Msg, v any) {
	if v == nil {
		return
	}
	body, err := json.Marshal(v)
	if err == nil {
		err = m.Respond(body)
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.cfg.Log.Warn("answer request", "subject", m.Subject, "error", err)
	}
}

func refusal(code, format string, a ...any) events.Outcome {
	return events.Outcome{Status: events.Refused, Code: code, Message: fmt.Sprintf(format, a...)}
}

// unavailable says why a request found no decision. It is safe to ask again with the same id.
func unavailable(err error) events.Outcome {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return refusal(events.CodeUnavailable, "no decision in time: ask again with the same id")
	}
	return refusal(events.CodeUnavailable, "no decision now (%v): ask again with the same id", err)
}
