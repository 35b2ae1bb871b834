package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"cloudengine/commands/api"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/follow"
	"cloudengine/projections/moment"
	"cloudengine/projections/mysql"
)

// upkeep looks after the read models while the server runs: it rebuilds and forks them, one at a time, and tells how they are.
type upkeep struct {
	database  *mysql.Database
	projector *mysql.Projector
	log       *follow.Log
	resolve   func(ctx context.Context, text string) (uint64, error) // the decision that a number or time names
	logger    *slog.Logger
	work      chan wire.ProjectionJob // of capacity 1: what run does next

	mu  sync.Mutex
	job *wire.ProjectionJob // the present or last one
}

func newUpkeep(d *mysql.Database, p *mysql.Projector, l *follow.Log, resolve func(context.Context, string) (uint64, error), log *slog.Logger) *upkeep {
	return &upkeep{database: d, projector: p, log: l, resolve: resolve, logger: log, work: make(chan wire.ProjectionJob, 1)}
}

func refused(code, format string, a ...any) *api.Refused {
	return &api.Refused{Outcome: events.Outcome{Status: events.Refused, Code: code, Message: fmt.Sprintf(format, a...)}}
}

// Begin takes work on, unless some is under way.
func (u *upkeep) Begin(_ context.Context, by string, q wire.ProjectionRequest) (wire.ProjectionJob, error) {
	if err := checkRequest(q); err != nil {
		return wire.ProjectionJob{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.job != nil && u.job.ID == q.ID {
		return *u.job, nil
	}
	if u.job != nil && !u.job.Done {
		return wire.ProjectionJob{}, refused(events.CodeConflict, "the read models are being worked on already (%s by %s): \"projection ls\" shows how far it is", u.job.Request.Action, u.job.By)
	}
	job := wire.ProjectionJob{ID: q.ID, Request: q, By: by, Began: time.Now().UTC(), Phase: mysql.PhaseFold.String()}
	u.job = &job
	u.work <- job
	return job, nil
}

func checkRequest(q wire.ProjectionRequest) error {
	want := map[string][]string{wire.ProjectionRebuild: nil, wire.ProjectionFork: {q.Schema, "schema", q.Until, "until"}, wire.ProjectionDropFork: {q.Schema, "schema"},
		wire.ProjectionRetry: {string(q.Kind), "kind", q.Object, "object"}, wire.ProjectionDrop: {string(q.Kind), "kind", q.Object, "object", q.Reason, "reason"}}
	fields, ok := want[q.Action]
	fields = append(fields, q.ID, "id")
	if !ok {
		return refused(events.CodeInvalid, "field \"action\": want rebuild, fork, drop_fork, retry or drop")
	}
	for i := 0; i < len(fields); i += 2 {
		if strings.TrimSpace(fields[i]) == "" {
			return refused(events.CodeInvalid, "field %q: %s needs it", fields[i+1], q.Action)
		}
	}
	return nil
}

// run does what Begin takes on, until ctx ends.
func (u *upkeep) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case job := <-u.work:
			u.logger.Info("work on the read models begins", "what", job.Request.Action, "by", job.By, "object", job.Request.Object, "reason", job.Request.Reason, "schema", job.Request.Schema)
			built, err := u.do(ctx, job)
			u.note(func(j *wire.ProjectionJob) {
				j.Done, j.Left, j.Rate, j.Took = true, 0, 0, time.Since(j.Began).Seconds()
				if err != nil {
					j.Error = u.explain(job.Request, err)
					return
				}
				j.Phase, j.Number, j.Parked = mysql.PhaseDone.String(), built.Number, built.Parked
			})
			u.logger.Info("work on the read models is over", "what", job.Request.Action, "by", job.By, "decisions", built.Number, "rows", built.Rows, "error", err)
		}
	}
}

func (u *upkeep) do(ctx context.Context, job wire.ProjectionJob) (mysql.Built, error) {
	q := job.Request
	progress := func(p mysql.Progress) {
		u.note(func(j *wire.ProjectionJob) {
			j.Phase, j.Number, j.Head, j.Loaded, j.Rows = p.Phase.String(), p.Decisions, p.Head, p.Loaded, p.Rows
			j.Rate, j.Took, j.Left = p.Rate, p.Took.Seconds(), p.Left.Seconds()
		})
	}
	ref := events.Ref{Kind: q.Kind, ID: q.Object}
	switch q.Action {
	case wire.ProjectionFork:
		until, err := u.resolve(ctx, q.Until)
		if err != nil {
			return mysql.Built{}, err
		}
		return u.database.Fork(ctx, u.log, mysql.ForkOptions{Schema: q.Schema, Until: until, Log: u.logger, Progress: progress})
	case wire.ProjectionDropFork:
		return mysql.Built{}, u.database.DropFork(ctx, q.Schema)
	case wire.ProjectionRetry:
		return u.projector.Rebuild(ctx, u.log, mysql.RebuildOptions{Lift: ref, Progress: progress})
	case wire.ProjectionDrop:
		return u.projector.Rebuild(ctx, u.log, mysql.RebuildOptions{Drop: ref, Reason: q.Reason, By: job.By, Progress: progress})
	}
	return u.projector.Rebuild(ctx, u.log, mysql.RebuildOptions{Progress: progress})
}

func (u *upkeep) note(change func(*wire.ProjectionJob)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(u.job)
}

// explain makes the outcome of work that failed.
func (u *upkeep) explain(q wire.ProjectionRequest, err error) *events.Outcome {
	code := events.CodeUnavailable
	for _, c := range []struct {
		err  error
		code string
	}{
		{mysql.ErrNotParked, events.CodeNotFound}, {mysql.ErrNoSchema, events.CodeNotFound}, {mysql.ErrStillParked, events.CodeConflict},
		{mysql.ErrNotOurs, events.CodeConflict}, {mysql.ErrBuilding, events.CodeConflict}, {mysql.ErrHeld, events.CodeConflict},
		{mysql.ErrFuture, events.CodeInvalid}, {moment.ErrNoMoment, events.CodeInvalid}, {mysql.ErrOtherLog, events.CodeConflict}, {events.ErrBroken, events.CodeConflict},
	} {
		if errors.Is(err, c.err) {
			code = c.code
			break
		}
	}
	return &events.Outcome{Status: events.Refused, Code: code, Message: fmt.Sprintf("%s: %v; nothing was changed", strings.ReplaceAll(q.Action, "_", " "), err)}
}

// Status tells how the read models are.
func (u *upkeep) Status(ctx context.Context) (wire.ProjectionStatus, error) {
	rows, err := mysql.ReadStatus(ctx, u.database.DB)
	if err != nil {
		return wire.ProjectionStatus{}, u.stale(err)
	}
	a := wire.ProjectionStatus{Schema: u.database.Schema(), Applied: rows.At.Number, Version: rows.Version, Parked: rows.Parked, Waiting: rows.Waiting, Dropped: rows.Dropped,
		Forks: []wire.ProjectionForkInfo{}, Job: u.present()}
	if a.Wanted, err = mysql.Version(); err != nil {
		return a, err
	}
	for _, m := range rows.Models {
		a.Models = append(a.Models, wire.ProjectionModel{Kind: m.Kind, Table: m.Table, Rows: m.Rows, Parked: m.Parked})
	}
	forks, err := u.database.Forks(ctx)
	if err != nil {
		return a, err
	}
	for _, f := range forks {
		info := wire.ProjectionForkInfo{Schema: f.Schema, Until: f.Until}
		if !f.Made.IsZero() {
			info.Made = &f.Made
		}
		a.Forks = append(a.Forks, info)
	}
	l, err := u.lag(ctx, a.Applied)
	a.Head, a.LagDecisions, a.LagSeconds = l.head, l.decisions, l.seconds
	return a, err
}

// stale says why tables of another version cannot be asked.
func (u *upkeep) stale(err error) error {
	if p, ok := u.projector.Renewing(); ok {
		return refused(events.CodeUnavailable, "the read models are being built anew for this version: %s, %d of %d decisions, %d rows loaded", p.Phase, p.Decisions, p.Head, p.Loaded)
	}
	return err
}

// present gives a copy of the present or last job; a rebuild at the start of the server is one too.
func (u *upkeep) present() *wire.ProjectionJob {
	if p, ok := u.projector.Renewing(); ok {
		return &wire.ProjectionJob{Request: wire.ProjectionRequest{Action: wire.ProjectionRebuild}, By: "system:start", Began: time.Now().Add(-p.Took).UTC(), Phase: p.Phase.String(),
			Number: p.Decisions, Head: p.Head, Loaded: p.Loaded, Rows: p.Rows, Rate: p.Rate, Took: p.Took.Seconds(), Left: p.Left.Seconds()}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.job == nil {
		return nil
	}
	job := *u.job
	return &job
}

// lag is how far the read models are behind the log.
type lag struct {
	head, decisions uint64
	seconds         float64 // age of the first decision that is missing
}

var errSeen = errors.New("that is all")

func (u *upkeep) lag(ctx context.Context, applied uint64) (lag, error) {
	head, err := u.log.Last(ctx)
	if err != nil || head <= applied {
		return lag{head: head}, err
	}
	l := lag{head: head, decisions: head - applied}
	err = u.log.Follow(ctx, applied+1, func(d []events.Recorded) error {
		l.seconds = max(0, time.Since(d[0].Time).Seconds())
		return errSeen
	})
	if errors.Is(err, errSeen) {
		err = nil
	}
	return l, err
}

// Parked lists parked and dropped events.
func (u *upkeep) Parked(ctx context.Context, q wire.ParkedRequest) (wire.ParkedAnswer, error) {
	a := wire.ParkedAnswer{Items: []wire.ParkedEvent{}, Dropped: []wire.ParkedEvent{}}
	all, err := mysql.ReadParked(ctx, u.database.DB, events.Ref{}, 0)
	if err != nil {
		return a, u.stale(err)
	}
	ref, err := meant(all, q)
	if err != nil {
		return a, err
	}
	at := map[events.Ref]int{} // of the object's first event among the items
	for _, e := range all {
		if q.Object != "" && e.Object != ref {
			continue
		}
		if i, later := at[e.Object]; later && q.Object == "" {
			if i >= 0 {
				a.Items[i].Behind++
			}
			continue
		}
		if len(a.Items) == q.Limit {
			a.More = true
			at[e.Object] = -1
			continue
		}
		at[e.Object] = len(a.Items)
		when := e.Time
		a.Items = append(a.Items, wire.ParkedEvent{Number: e.Number, Index: e.Index, Kind: e.Object.Kind, Object: e.Object.ID, Type: e.Type, Error: e.Error, First: e.First, Time: &when})
	}
	dropped, err := mysql.ReadDropped(ctx, u.database.DB)
	if err != nil {
		return a, err
	}
	for _, e := range dropped {
		if (q.Object == "" || e.Object == ref || strings.HasPrefix(e.Object.ID, q.Object)) && len(a.Dropped) < q.Limit {
			when := e.At
			a.Dropped = append(a.Dropped, wire.ParkedEvent{Number: e.Number, Index: e.Index, Kind: e.Object.Kind, Object: e.Object.ID, Type: e.Type, Error: e.Error, First: true,
				Dropped: &when, By: e.By, Reason: e.Reason})
		}
	}
	return a, nil
}

// meant finds the parked object that a question means by an id or the beginning of one.
func meant(all []mysql.ParkedEvent, q wire.ParkedRequest) (events.Ref, error) {
	found := map[events.Ref]bool{}
	var ref events.Ref
	for _, e := range all {
		if e.Object.Kind == q.Kind && strings.HasPrefix(e.Object.ID, q.Object) {
			found[e.Object], ref = true, e.Object
			if e.Object.ID == q.Object {
				return ref, nil
			}
		}
	}
	switch {
	case q.Object == "", len(found) == 1:
		return ref, nil
	case len(found) > 1:
		return ref, refused(events.CodeConflict, "%d parked objects of kind %s begin with %q: give the whole id", len(found), q.Kind, q.Object)
	case projections.ByKind(q.Kind) == nil:
		return ref, refused(events.CodeInvalid, "field \"kind\": there is no kind %q", q.Kind)
	}
	return ref, refused(events.CodeNotFound, "nothing of %s %s is parked", q.Kind, q.Object)
}
