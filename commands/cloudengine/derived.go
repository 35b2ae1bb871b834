package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"cloudengine/events"
	"cloudengine/events/feed"
	"cloudengine/events/feed/alerts"
	"cloudengine/projections/follow"
	"cloudengine/projections/mysql"
	"cloudengine/workers/power"

	"github.com/nats-io/nats.go/jetstream"
)

// openReadModels opens MariaDB. It is filled once the log is there.
func (s *server) openReadModels(ctx context.Context) error {
	var err error
	s.database, err = mysql.Open(ctx, mysql.Config{DSN: s.opts.dsn, Dir: s.path("mariadb"), Log: s.log.With("part", "mariadb")})
	if err != nil {
		return err
	}
	s.parts.onStop("database", s.database.Close)
	if p := s.database.Private(); p != nil { // so that dashboards find it
		if err := os.WriteFile(s.path("mysql.dsn"), []byte(p.DSN()+"\n"), 0o600); err != nil {
			return fmt.Errorf("note where the database is: %w", err)
		}
	}
	s.projector = mysql.NewProjector(s.database.DB, s.log.With("part", "projections"))
	if s.opts.rebuild {
		s.projector.Anew()
	}
	s.reader = newReader(s.database.DB, s.projector, s.log.With("part", "read"))
	return nil
}

// startDerived starts what follows from the log: read models, FEED, DESIRED, and the handlers on FEED.
func (s *server) startDerived(context.Context) error {
	log := follow.New(s.plane.JS)
	s.parts.run("projections", func(ctx context.Context) error {
		return s.keep(ctx, "read models", func(ctx context.Context) error { return s.projector.Run(ctx, log) })
	})
	s.parts.run("snapshots", func(ctx context.Context) error { return s.past.Run(ctx, snapshotPause) })
	s.parts.run("upkeep of read models", s.upkeep.run)
	s.parts.run("feed", s.deriver.Run)
	s.parts.run("audit", s.audit.Keeper.Run)
	s.parts.run("desired", func(ctx context.Context) error { return s.desired.Run(ctx, log) })
	s.parts.run("table of alerts", s.copyAlerts)
	s.parts.run("alarm", s.alarm)
	return s.startHandlers()
}

// Names of the handlers on FEED. They are permanent: they name durable consumers, which know how far they are.
const (
	alertsHandler = "alerts"
	powerHandler  = "power"
)

// halting are the errors from which nothing may go on: what is stored is not what it should be.
var halting = []error{events.ErrBroken, mysql.ErrAhead, mysql.ErrOtherLog, mysql.ErrOtherOwner, mysql.ErrGap}

// keep runs work until ctx ends, and again when it fails: in a cluster that has just lost a server, the streams are away for some
// seconds. It gives up on errors that halt.
func (s *server) keep(ctx context.Context, what string, work func(context.Context) error) error {
	for {
		err := work(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, h := range halting {
			if errors.Is(err, h) {
				return fmt.Errorf("keep %s: %w", what, err)
			}
		}
		s.log.Warn("a part stopped and is started again", "part", what, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// startHandlers has what hangs on FEED run while this server is the active one: alerts and the power worker.
func (s *server) startHandlers() error {
	worker, err := s.newPower()
	if err != nil {
		return err
	}
	s.power.Store(worker)
	s.parts.run("handlers on FEED", func(ctx context.Context) error {
		return s.activity.while(ctx, func(ctx context.Context) error {
			return s.keep(ctx, "handlers", func(ctx context.Context) error { return s.handle(ctx, worker) })
		})
	})
	s.parts.run("checks of BMCs", func(ctx context.Context) error { return s.activity.while(ctx, worker.Run) })
	return nil
}

// handle runs the handlers until ctx ends, on a connection of their own.
func (s *server) handle(ctx context.Context, worker *power.Worker) error {
	conn, err := s.plane.Bus.Connect("handlers")
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	replicas := 1
	if s.opts.cluster != "" {
		replicas = 3
	}
	if err := feed.EnsureParked(ctx, js, replicas); err != nil {
		return err
	}
	router, err := feed.NewRouter(js, quieter(s.log.With("part", "handlers")))
	if err != nil {
		return err
	}
	book, err := s.openBook(ctx, js, replicas)
	if err != nil {
		return err
	}
	alert := book.Handler()
	for _, r := range []feed.Registration{
		{Name: alertsHandler, Subjects: alerts.Subjects, Handle: func(ctx context.Context, d feed.Delivery) error { return alert(ctx, d.FeedMessage) }},
		{Name: powerHandler, Subjects: power.Subject, InFlight: 16, Handle: func(ctx context.Context, d feed.Delivery) error { return worker.Handle(ctx, d.FeedMessage) }},
	} {
		if err := router.Handle(r); err != nil {
			return err
		}
	}
	return s.withBook(ctx, book, js, router.Run)
}
