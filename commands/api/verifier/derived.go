package verifier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/verify"
)

// ErrNotHere says that this server has no source for a section.
var ErrNotHere = errors.New("this server cannot ask for it")

// rows compares the database as of one moment with the fold at its checkpoint.
func (r *run) rows(ctx context.Context, out *verify.List) (checked int, err error) {
	if r.cfg.Database == nil {
		return 0, ErrNotHere
	}
	r.say(wire.VerifyProgress{Section: verify.Rows, Doing: "waiting for the read models to reach decision", Done: r.fold.rows.At()})
	db, err := r.caughtUp(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f, at := r.fold, db.Checkpoint()
	if err := f.forward(ctx, at.Number, nil); err != nil {
		return 0, err
	}
	dropped, err := db.Dropped(ctx)
	if err != nil {
		return 0, err
	}
	verify.CompareDropped(f.rows, dropped, out)
	if at.Number < f.rows.At() { // it does not move: fold the log again, no further than it is
		out.Add(verify.Lag(at, f.rows.At(), r.cfg.Behind))
	}
	if at.Number < f.rows.At() || len(dropped) > 0 {
		f = newFold(r.cfg.Log)
		for _, d := range dropped {
			f.rows.Leave(d.Number, d.Index)
		}
		if err := f.until(ctx, at.Number); err != nil {
			return 0, err
		}
	}
	last := f.last
	if last != nil && last.Number != at.Number {
		last = nil
	}
	out.Add(verify.CompareCheckpoint(at, last, f.rows.At())...)
	r.say(wire.VerifyProgress{Section: verify.Rows, Doing: "rows as of decision", Done: f.rows.At()})
	return db.Compare(ctx, f.rows, out)
}

// until folds a new fold to a decision; 0 is before the first.
func (f *fold) until(ctx context.Context, number uint64) error {
	if number == 0 {
		return nil
	}
	return f.forward(ctx, number, nil)
}

// caughtUp opens the database once it has all that was folded, or as it is when it does not get there in time.
func (r *run) caughtUp(ctx context.Context) (Database, error) {
	for end := r.cfg.Now().Add(r.cfg.Behind); ; {
		db, err := r.cfg.Database(ctx)
		if err != nil {
			return nil, err
		}
		if db.Checkpoint().Number >= r.fold.rows.At() || r.cfg.Now().After(end) {
			return db, nil
		}
		if err := db.Close(); err != nil {
			return nil, fmt.Errorf("close the database: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the read models: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// documents compares DESIRED with what follows from the log.
func (r *run) documents(ctx context.Context, out *verify.List) (checked int, err error) {
	if r.cfg.Documents == nil {
		return 0, ErrNotHere
	}
	found, err := r.steady(ctx, r.cfg.Looks, func(ctx context.Context) ([]verify.Finding, error) {
		r.say(wire.VerifyProgress{Section: verify.Desired, Doing: "documents"})
		held, err := r.cfg.Documents(ctx)
		if err != nil {
			return nil, err
		}
		checked = len(held)
		if err := r.fold.forward(ctx, 0, nil); err != nil { // after the stream: what is there was decided before
			return nil, err
		}
		return r.cloud().Documents(held), nil
	})
	for _, f := range r.fold.frozen {
		out.Add(verify.Finding{Section: verify.Desired, Severity: verify.Wrong, Check: "frozen", Kind: "document", ID: "object", What: f.Error(),
			Next: "its documents stand still: upgrade the server if the event is of a newer version, else report it with the log"})
	}
	out.Add(found...)
	return checked, err
}

// files looks for the files of templates and of what runs, and for the values of secrets.
func (r *run) files(ctx context.Context, out *verify.List) (checked int, err error) {
	if r.cfg.Blob == nil || r.cfg.Secret == nil {
		return 0, ErrNotHere
	}
	found, err := r.steady(ctx, 2, func(ctx context.Context) ([]verify.Finding, error) {
		if err := r.fold.forward(ctx, 0, nil); err != nil {
			return nil, err
		}
		c := r.cloud()
		blobs, secrets := c.Blobs(), c.Secrets()
		checked = len(blobs) + len(secrets)
		var list verify.List
		for i, b := range blobs {
			r.say(wire.VerifyProgress{Section: verify.Files, Doing: "files", Done: uint64(i), Of: uint64(len(blobs))})
			list.Add(c.BlobFinding(b, r.cfg.Blob(ctx, b.Blob))...)
			if ctx.Err() != nil {
				return nil, fmt.Errorf("read files: %w", ctx.Err())
			}
		}
		for _, s := range secrets {
			list.Add(c.SecretFinding(s, r.cfg.Secret(s.Name, s.Fingerprint))...)
		}
		if r.cfg.Image == nil {
			return list.All, nil
		}
		images := c.Images()
		checked += len(images)
		for _, version := range images {
			r.say(wire.VerifyProgress{Section: verify.Files, Doing: "boot image " + version})
			list.Add(c.ImageFinding(version, r.cfg.Image(version))...)
		}
		return list.All, nil
	})
	out.Add(found...)
	return checked, err
}

// power asks every BMC.
func (r *run) power(ctx context.Context, out *verify.List) (checked int, err error) {
	if r.cfg.Power == nil {
		return 0, ErrNotHere
	}
	found, err := r.steady(ctx, 2, func(ctx context.Context) ([]verify.Finding, error) {
		ids := r.cloud().WithBMC()
		checked = len(ids)
		answers := each(ctx, ids, 16, func(ctx context.Context, m events.MachineID) verify.PowerAnswer {
			state, err := r.cfg.Power(ctx, m)
			return verify.PowerAnswer{State: state, Missing: text(err)}
		}, func(n int) {
			r.say(wire.VerifyProgress{Section: verify.Power, Doing: "BMCs", Done: uint64(n), Of: uint64(len(ids))})
		})
		if err := r.fold.forward(ctx, 0, nil); err != nil {
			return nil, err
		}
		return r.cloud().Power(answers), nil
	})
	out.Add(found...)
	return checked, err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
