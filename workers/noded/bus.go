package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"cloudengine/events"
)

// Times of the bus.
const (
	connectTimeout = 5 * time.Second
	answerTimeout  = 5 * time.Second // of an enrolment
	reportTimeout  = 2 * time.Second // then it is sent again, with the same bytes
	firstRetry     = 100 * time.Millisecond
	lastRetry      = 2 * time.Second
	completeEvery  = 60 * time.Second
	aliveEvery     = 5 * time.Second
)

// bus is the machine's connection to the control plane. It is made again for as long as the agent lives.
type bus struct {
	a   *agent
	log *slog.Logger

	mu sync.Mutex
	nc *nats.Conn // nil while there is none
	up chan struct{}

	again chan struct{} // the session's: the consumer of documents must be looked up again
}

func newBus(a *agent) *bus { return &bus{a: a, log: a.log, up: make(chan struct{})} }

func (b *bus) run(ctx context.Context) error {
	wait := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := b.session(ctx)
		if ctx.Err() != nil {
			break
		}
		b.log.Warn("no connection to the control plane", "err", err, "again_in", wait)
		if time.Since(began) > 10*time.Second {
			wait = firstRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRetry)
	}
	return ctx.Err()
}

// session enrols if need be, connects with the key of this boot, and works until the connection is closed for good.
func (b *bus) session(ctx context.Context) error {
	pair, err := b.a.keep.key()
	if err != nil {
		return err
	}
	if !b.a.keep.enrolled() {
		if err := b.enrol(ctx, pair); err != nil {
			return err
		}
	}
	closed, reconnected := make(chan struct{}), make(chan struct{}, 1)
	b.again = make(chan struct{}, 1)
	nc, err := b.connect(pair, closed, reconnected)
	if errors.Is(err, nats.ErrAuthorization) {
		return errors.Join(fmt.Errorf("connect as machine: %w", err), b.a.keep.setEnrolled(false))
	}
	if err != nil {
		return fmt.Errorf("connect as machine: %w", err)
	}
	defer nc.Close()
	b.set(nc)
	defer b.set(nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	if err := b.answerQuestions(nc); err != nil {
		return err
	}
	b.a.disconnected() // BEFORE any document: what is here is told before anything is done about it
	for _, f := range []func(context.Context, *nats.Conn){b.follow, b.beat} {
		work.Add(1)
		go func() { defer work.Done(); f(ctx, nc) }()
	}
	return b.attend(ctx, nc, closed, reconnected)
}

// attend asks for complete reports, at each reconnect and every minute, until the connection is closed.
func (b *bus) attend(ctx context.Context, nc *nats.Conn, closed, reconnected chan struct{}) error {
	ticker := time.NewTicker(completeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-closed:
			return fmt.Errorf("connection closed: %w", nc.LastError())
		case <-reconnected:
			b.a.disconnected()
			select {
			case b.again <- struct{}{}:
			default:
			}
		case <-ticker.C:
			b.a.complete()
		}
	}
}

func (b *bus) connect(pair nkeys.KeyPair, closed, reconnected chan struct{}) (*nats.Conn, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	trust, err := trustIn(b.a.conf)
	if err != nil {
		return nil, err
	}
	return nats.Connect(strings.Join(b.a.conf.Bus, ","), trust,
		nats.Name("noded "+b.a.conf.Name), nats.Nkey(public, pair.Sign), nats.CustomInboxPrefix(events.InboxPrefix(string(b.a.machine))),
		nats.Timeout(connectTimeout), nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.PingInterval(5*time.Second), nats.MaxPingsOutstanding(2), nats.ReconnectBufSize(-1),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.log.Warn("disconnected from the control plane", "err", err)
			b.a.disconnected() // BEFORE any document of the next connection
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.log.Info("connected again", "server", nc.ConnectedUrlRedacted())
			select {
			case reconnected <- struct{}{}:
			default:
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { b.log.Warn("bus", "err", err) }),
	)
}

func (b *bus) set(nc *nats.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nc = nc
	if nc != nil {
		close(b.up)
	} else {
		b.up = make(chan struct{})
	}
}

// conn waits for a connection that is up.
func (b *bus) conn(ctx context.Context) (*nats.Conn, error) {
	for {
		b.mu.Lock()
		nc, up := b.nc, b.up
		b.mu.Unlock()
		if nc != nil && nc.IsConnected() {
			return nc, nil
		}
		var check <-chan time.Time
		if nc != nil {
			check, up = time.After(20*time.Millisecond), nil // it comes back by itself, or is closed
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-up:
		case <-check:
		}
	}
}

// enrol tells the control plane of this boot, with the token that came with the boot image. Repeated, it changes nothing.
func (b *bus) enrol(ctx context.Context, pair nkeys.KeyPair) error {
	public, err := pair.PublicKey()
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	trust, err := trustIn(b.a.conf)
	if err != nil {
		return err
	}
	m := b.a.machine
	nc, err := nats.Connect(strings.Join(b.a.conf.Bus, ","), trust, nats.Name("noded enrol "+b.a.conf.Name),
		nats.UserInfo(events.EnrolUser, string(m)+"."+b.a.conf.Token), nats.CustomInboxPrefix(events.EnrolInboxPrefix(m)),
		nats.Timeout(connectTimeout), nats.NoReconnect())
	if err != nil {
		return fmt.Errorf("connect to enrol: %w", err)
	}
	defer nc.Close()
	body, err := json.Marshal(events.Enrol{
		Machine: m, Token: b.a.conf.Token, Boot: b.a.conf.BootID, Key: public, Image: b.a.conf.Image, Inventory: b.a.inventory(),
	})
	if err != nil {
		return fmt.Errorf("encode enrolment: %w", err)
	}
	answer, err := ask(ctx, nc, events.ReportSubject(m, events.ReportEnrol), body, answerTimeout)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	if answer.Outcome.Status == events.Refused || answer.Outcome.Status == "" {
		return fmt.Errorf("enrol: %w: %s: %s", errRefused, answer.Outcome.Code, answer.Outcome.Message)
	}
	b.log.Info("enrolled", "machine", m, "boot", b.a.conf.BootID, "number", answer.Number)
	return b.a.keep.setEnrolled(true)
}

var errRefused = errors.New("the control plane refused")

func ask(ctx context.Context, nc *nats.Conn, subject string, body []byte, limit time.Duration) (events.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return events.Answer{}, fmt.Errorf("ask %s: %w", subject, err)
	}
	var a events.Answer
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		return events.Answer{}, fmt.Errorf("read answer of %s: %w", subject, err)
	}
	return a, nil
}

// report sends one report and waits for the answer.
func (b *bus) report(ctx context.Context, _ uint64, body []byte) (events.Answer, error) {
	nc, err := b.conn(ctx)
	if err != nil {
		return events.Answer{}, err
	}
	b.a.consoles.send(ctx, nc, b.a.machine, b.a.conf.BootID, body)
	return ask(ctx, nc, events.ReportSubject(b.a.machine, events.ReportState), body, reportTimeout)
}

// reportStorage sends one report of storage and waits for the answer.
func (b *bus) reportStorage(ctx context.Context, body []byte) (events.Answer, error) {
	nc, err := b.conn(ctx)
	if err != nil {
		return events.Answer{}, err
	}
	return ask(ctx, nc, events.ReportSubject(b.a.machine, events.ReportStorage), body, reportTimeout)
}

// beat says that the machine lives. It is never stored.
func (b *bus) beat(ctx context.Context, nc *nats.Conn) {
	ticker := time.NewTicker(aliveEvery)
	defer ticker.Stop()
	body, _ := json.Marshal(map[string]string{"boot": b.a.conf.BootID})
	for {
		_ = nc.Publish(events.TelemetrySubject(b.a.machine, "alive"), body) // lost is lost: the next follows
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
