package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"cloudengine/commands/api"
	"cloudengine/commands/dispatch"
	"cloudengine/commands/dispatch/plane"
	"cloudengine/events/broker"
	"cloudengine/events/feed"
	"cloudengine/events/feed/alerts"
	"cloudengine/projections/desired"
	"cloudengine/projections/follow"
	"cloudengine/projections/moment"
	"cloudengine/projections/mysql"
	"cloudengine/workers/power"

	"golang.org/x/sys/unix"
)

// server is a managing server in the making. Each step of start starts some parts and leaves them with the supervisor; what one part
// needs of another is in the fields. Parts are stopped in the reverse order.
type server struct {
	opts  serveOptions
	log   *slog.Logger
	parts *supervisor

	listener  net.Listener // nil: no HTTP
	blobs     *api.Blobs
	consoles  *api.Consoles
	secrets   *api.Secrets
	plane     *plane.Plane
	own       api.Everywhere
	database  *mysql.Database
	projector *mysql.Projector
	reader    reader
	past      *moment.Keeper
	deriver   *feed.Deriver
	desired   *desired.Publisher
	api       *api.Service
	audit     *api.Auditing
	upkeep    *upkeep
	power     atomic.Pointer[power.Worker]
	book      atomic.Pointer[alerts.Book] // nil: not open here

	trust []byte // what clients must trust, as PEM; nil: the bus is not encrypted

	activity        *activity
	machinesChanged chan struct{} // of capacity 1
}

// start starts the parts in the order in which they need each other.
func (s *server) start(ctx context.Context) error {
	for _, step := range []struct {
		name  string
		start func(context.Context) error
	}{
		{"http", s.listenHTTP},
		{"stores", s.openStores},
		{"read models", s.openReadModels},
		{"bus and log", s.startPlane},
		{"derived streams", s.startDerived},
		{"boot service", s.startHTTP},
	} {
		began := time.Now()
		if err := step.start(ctx); err != nil {
			return fmt.Errorf("start %s: %w", step.name, err)
		}
		s.log.Debug("started", "part", step.name, "took", time.Since(began).Round(time.Millisecond))
	}
	return nil
}

func (s *server) path(words ...string) string {
	return filepath.Join(append([]string{s.opts.data}, words...)...)
}

// lockData makes the data directory and keeps a second server out of it.
func lockData(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("lock data directory %s: %w (another \"cloudengine serve\" uses it: stop that, or name another directory with --data)", dir, err)
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // gives the lock up; nothing was written
}

func (s *server) openStores(context.Context) error {
	var err error
	if s.blobs, err = api.OpenBlobs(s.path("blobs")); err != nil {
		return err
	}
	if s.consoles, err = api.OpenConsoles(s.path("consoles")); err != nil {
		return err
	}
	s.secrets, err = api.OpenSecrets(s.path("secrets"), s.path("master.key"))
	return err
}

// startPlane starts bus, log and dispatcher, and with them all that must hear of every decision from the first on.
func (s *server) startPlane(ctx context.Context) error {
	bus, err := s.busOptions()
	if err != nil {
		return err
	}
	key, made, err := adminKey(s.path(adminKeyFile))
	if err != nil {
		return err
	}
	restored, err := s.restoredAt()
	if err != nil {
		return err
	}
	s.plane, err = plane.Start(ctx, plane.Options{
		Bus: bus, Logger: s.log, Dispatch: dispatch.Options{AdminKey: key, Silence: s.opts.silence, Restored: restored},
	}, s.attach)
	if err != nil {
		return err
	}
	s.parts.onStop("bus and log", func() error { s.plane.Stop(); return nil })
	s.parts.run("disk of the log", s.watchDisk)
	if err := s.plane.Dispatch.Wait(ctx, 2); err != nil { // the log is open, and there is an administrator
		return fmt.Errorf("wait for the log to be opened: %w", err)
	}
	s.announced(ctx)
	return errors.Join(s.keepAdminKey(key, made), s.noteRestored(ctx, restored))
}

// watchDisk ends the server when it has to be started again because its disk was full.
func (s *server) watchDisk(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := s.plane.MustRestart(); err != nil {
			return err
		}
	}
}

func (s *server) busOptions() (broker.Options, error) {
	o := broker.Options{Dir: s.path("streams"), Listen: s.opts.listen, Name: s.opts.name, UnsafeNoFsync: s.opts.unsafeNoFsync,
		Own: []string{alertsHandler, powerHandler}, UnsafePlain: s.opts.plaintext}
	var err error
	if o.TLS, err = s.openTLS(); err != nil {
		return o, err
	}
	if s.opts.unsafeNoFsync {
		s.log.Warn("fsync is off: a power failure loses acknowledged decisions")
	}
	if s.opts.cluster == "" {
		return o, nil
	}
	secret, err := s.opts.secret()
	o.Cluster = &broker.Cluster{Listen: s.opts.cluster, Routes: s.opts.routes, Secret: secret}
	return o, err
}

// attach registers what hears of decisions and of this server's becoming active. The dispatcher does not run yet.
func (s *server) attach(p *plane.Plane) error {
	var err error
	if s.deriver, err = feed.NewDeriver(p.Conn, feed.FromJournal(p.Journal), s.log.With("part", "feed")); err != nil {
		return err
	}
	if err := s.openPast(p); err != nil {
		return err
	}
	if err := s.openAudit(p); err != nil {
		return err
	}
	s.upkeep = newUpkeep(s.database, s.projector, follow.New(p.JS), s.past.Resolve, s.log.With("part", "upkeep"))
	s.own = api.Everywhere{Here: p.Dispatch, Active: p.Dispatch.Active, Bus: p.Conn}
	s.desired = desired.NewPublisher(p.JS, p.Dispatch.Active, s.log.With("part", "desired"))
	serial := s.newSerial(p.Dispatch)
	s.parts.run("serial consoles", serial.Run)
	s.api = api.New(api.Config{
		Bus: p.Conn, Decider: p.Dispatch, Users: users{p.Dispatch}, Reader: s.reader, Journal: p.Journal, Blobs: s.blobs, Consoles: s.consoles, Secrets: s.secrets, Verifier: s.newVerifier(p),
		Log: s.log.With("part", "api"), Audit: s.audit, LogStatus: s.logStatus, Alerts: s.alerts, Moments: s.past, Projections: s.upkeep, Serial: serial,
	})
	p.Dispatch.OnApplied(s.deriver.Apply)
	p.Dispatch.OnApplied(s.desired.Apply)
	p.Dispatch.OnApplied(s.noteMachines)
	p.Dispatch.OnActive(func(active bool) {
		s.activity.set(active)
		s.desired.Wake()
		if !active {
			s.api.Close()
			return
		}
		if err := s.api.Open(); err != nil {
			s.log.Error("the endpoints could not be opened; clients will get no answer", "error", err)
		}
	})
	return nil
}
