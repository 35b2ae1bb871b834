package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"cloudengine/commands/api"
	"cloudengine/commands/filesystem"
	"cloudengine/events/feed"
	"cloudengine/events/feed/alerts"
	"cloudengine/projections/follow"
	"cloudengine/projections/mysql"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
)

// alertOptions say who is told of alerts.
type alertOptions struct {
	webhook, webhookSecret string
	relay, from            string
	to                     []string
	user, password, ca     string
	plain                  bool
	lag                    time.Duration
}

func (o *alertOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.webhook, "alert-webhook", "", "address that alerts are posted to as JSON")
	fs.StringVar(&o.webhookSecret, "alert-webhook-secret-file", "", "file with the secret that these posts are signed with (HMAC-SHA-256)")
	fs.StringVar(&o.relay, "alert-mail-relay", "", "mail relay (host:port) that alerts are sent through, with STARTTLS")
	fs.StringVar(&o.from, "alert-mail-from", "", "who sends the mail")
	fs.StringSliceVar(&o.to, "alert-mail-to", nil, "who gets the mail")
	fs.StringVar(&o.user, "alert-mail-user", "", "user at the relay; empty: nobody logs in")
	fs.StringVar(&o.password, "alert-mail-password-file", "", "file with that user's password")
	fs.StringVar(&o.ca, "alert-mail-ca", "", "file with the authority of the relay's certificate (default: those of the system)")
	fs.BoolVar(&o.plain, "alert-mail-plain", false, "send mail in the clear if the relay offers no STARTTLS")
	fs.DurationVar(&o.lag, "alert-lag", 30*time.Second, "after how long behind the log read models and FEED raise an alert")
}

// senders makes those that tell people.
func (o *alertOptions) senders() ([]alerts.Sender, error) {
	var out []alerts.Sender
	if o.webhook != "" {
		secret, err := secretOf("alert-webhook-secret-file", o.webhookSecret)
		if err != nil {
			return nil, err
		}
		w, err := alerts.NewWebhook(o.webhook, secret, time.Now)
		if err != nil {
			return nil, usagef("--alert-webhook: %w", err)
		}
		out = append(out, w)
	}
	if o.relay == "" {
		if len(o.to) > 0 || o.from != "" {
			return nil, usagef("--alert-mail-from and --alert-mail-to need --alert-mail-relay")
		}
		return out, nil
	}
	m, err := o.mail()
	if err != nil {
		return nil, err
	}
	return append(out, m), nil
}

func (o *alertOptions) mail() (*alerts.Mail, error) {
	password, err := secretOf("alert-mail-password-file", o.password)
	if err != nil {
		return nil, err
	}
	c := alerts.MailConfig{Relay: o.relay, From: o.from, To: o.to, User: o.user, Password: string(password), Plain: o.plain, Now: time.Now}
	if o.ca != "" {
		raw, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, fmt.Errorf("read --alert-mail-ca: %w", err)
		}
		c.Roots = x509.NewCertPool()
		if !c.Roots.AppendCertsFromPEM(raw) {
			return nil, usagef("--alert-mail-ca %s: there is no certificate in it", o.ca)
		}
	}
	m, err := alerts.NewMail(c)
	if err != nil {
		return nil, usageError{err}
	}
	return m, nil
}

func secretOf(flag, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read --%s: %w", flag, err)
	}
	return bytes.TrimSpace(raw), nil
}

// alertsEvery is how often the measures are asked.
const alertsEvery = 5 * time.Second

// openBook opens the book of alerts on the active server.
func (s *server) openBook(ctx context.Context, js jetstream.JetStream, replicas int) (*alerts.Book, error) {
	senders, err := s.opts.alerts.senders()
	if err != nil {
		return nil, err
	}
	if err := alerts.EnsureStream(ctx, js, replicas); err != nil {
		return nil, err
	}
	return alerts.Load(ctx, js, s.log.With("part", "alerts"), time.Now, senders...)
}

// withBook runs the handlers beside what the book itself does, until ctx ends or one of them fails.
func (s *server) withBook(ctx context.Context, book *alerts.Book, js jetstream.JetStream, handlers func(context.Context) error) error {
	s.book.Store(book)
	defer s.book.Store(nil)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return book.Deliver(ctx, alerts.Patience{}) })
	g.Go(func() error {
		return book.Watch(ctx, alertsEvery, s.lags(), s.measureDisk, s.decides, s.measureParked(js))
	})
	g.Go(func() error {
		return book.Contradictions(ctx, follow.New(js), s.plane.Dispatch.Applied())
	})
	g.Go(func() error {
		err := handlers(ctx)
		if err == nil && ctx.Err() == nil {
			err = errors.New("the handlers on FEED have ended by themselves")
		}
		return err
	})
	return g.Wait()
}

// alerts gives the book to the endpoints; nil while it is not open here.
func (s *server) alerts() api.Alerts {
	if b := s.book.Load(); b != nil {
		return b
	}
	return nil
}

// copyAlerts keeps the table of alerts, on every server.
func (s *server) copyAlerts(ctx context.Context) error {
	return s.keep(ctx, "table of alerts", func(ctx context.Context) error {
		return alerts.Follow(ctx, s.plane.JS, mysql.Alerts{DB: s.database.DB})
	})
}

// lags measures how far what follows from the log is behind it.
func (s *server) lags() alerts.Measure {
	rows, feed := alerts.Lag{Limit: s.opts.alerts.lag}, alerts.Lag{Limit: s.opts.alerts.lag}
	return func(context.Context) ([]alerts.Level, error) {
		now, log := time.Now(), s.plane.Dispatch.Status().Applied
		have, fed := s.projector.Applied(), s.deriver.Published()
		return []alerts.Level{
			alerts.LagLevel("read_models", rows.Behind(log, have, now), log, have),
			alerts.LagLevel("feed", feed.Behind(log, fed, now), log, fed),
		}, nil
	}
}

func (s *server) measureDisk(context.Context) ([]alerts.Level, error) {
	room, err := filesystem.RoomOf(s.opts.data)
	if err != nil {
		return nil, err
	}
	return alerts.DiskLevels(s.opts.name, room.Share()), nil
}

// measureParked counts what could not be applied to the read models, and what handlers on FEED could not handle.
func (s *server) measureParked(js jetstream.JetStream) alerts.Measure {
	return func(ctx context.Context) ([]alerts.Level, error) {
		n, err := mysql.CountParked(ctx, s.database.DB)
		if err != nil {
			return nil, err
		}
		out := []alerts.Level{alerts.ParkedLevel("read_models", n, "objects are parked: an event could not be applied, their rows stand still (cloudengine parked ls)")}
		stream, err := js.Stream(ctx, feed.StreamParked)
		if err != nil {
			return out, fmt.Errorf("count parked messages: %w", err)
		}
		return append(out, alerts.ParkedLevel("feed", int(stream.CachedInfo().State.Msgs), "messages of FEED could not be handled (stream PARKED)")), nil
	}
}
