package main

import (
	"context"
	"fmt"
	"time"

	"cloudengine/events"
	"cloudengine/events/feed/alerts"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// alarm tells people when nobody decides although this server leads the log: it has stopped, and so have the handlers on FEED, which tell
// of all else. The alert is ended by the server that decides again.
func (s *server) alarm(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for since := (time.Time{}); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		bad := s.silentTrouble()
		if bad == nil {
			since = time.Time{}
			continue
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < s.opts.alerts.lag {
			continue
		}
		if err := s.soundAlarm(ctx, bad); err != nil && ctx.Err() == nil {
			s.log.Warn("nobody could be told that nothing is decided", "error", err)
		}
	}
}

// silentTrouble says why nothing is decided; nil if something is, or if that is another server's matter.
func (s *server) silentTrouble() error {
	if active, _ := s.activity.now(); active || !s.plane.Bus.IsLeader(events.StreamEvents) {
		return nil
	}
	return s.plane.Dispatch.Health()
}

// soundAlarm raises the alert, and sends it until the trouble is over.
func (s *server) soundAlarm(ctx context.Context, trouble error) error {
	conn, err := s.plane.Bus.Connect("alarm")
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	book, err := s.openBook(ctx, js, s.replicas())
	if err != nil {
		return err
	}
	if err := book.Take(ctx, alerts.Change{
		Rule: alerts.RuleStopped, Object: theLog, Raise: true, Severity: alerts.Critical, Time: time.Now().UTC(),
		Message: "nothing is decided any more: " + oneLine(trouble.Error()),
	}); err != nil {
		return err
	}
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	g, sending := errgroup.WithContext(sending)
	g.Go(func() error { return book.Deliver(sending, alerts.Patience{}) })
	g.Go(func() error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for s.silentTrouble() != nil {
			select {
			case <-sending.Done():
				return nil
			case <-tick.C:
			}
		}
		cancel()
		return nil
	})
	return g.Wait()
}

// theLog is what the alert is about: whichever server decides again ends it.
var theLog = events.Ref{Kind: events.KindLog, ID: "log"}

func (s *server) replicas() int {
	if s.opts.cluster != "" {
		return 3
	}
	return 1
}

// decides is a measure: it is asked only while this server decides.
func (s *server) decides(context.Context) ([]alerts.Level, error) {
	return []alerts.Level{{Rule: alerts.RuleStopped, Object: theLog, Good: true, Message: "server " + s.opts.name + " decides"}}, nil
}
