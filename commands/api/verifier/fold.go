package verifier

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/desired"
	"cloudengine/projections/verify"
)

// fold is the log, folded anew. It only goes forward.
type fold struct {
	source Log
	audit  *commands.Audit
	rows   *projections.Memory
	docs   *desired.Fold
	at     events.Position  // just after the last block that was folded whole
	last   *events.Recorded // the last decision that was folded
	frozen []error          // objects that cannot be rendered
	broken error            // the chain ends here
}

func newFold(l Log) *fold {
	return &fold{source: l, audit: commands.NewAudit(), rows: projections.NewMemory(), docs: desired.NewFold()}
}

// errReached stops the reading at a decision.
var errReached = errors.New("the decision is reached")

// forward folds on to the end of the log, or to a decision; 0: to the end.
func (f *fold) forward(ctx context.Context, to uint64, said func(number uint64)) error {
	if f.broken != nil {
		return f.broken
	}
	end, err := f.source.Load(ctx, f.at, func(_ events.Position, b *events.Block) error {
		for _, r := range b.Recorded() {
			if r.Number <= f.rows.At() {
				continue // of a block that was folded in part
			}
			if to > 0 && r.Number > to {
				return errReached
			}
			if err := f.add(r); err != nil {
				return err
			}
		}
		if said != nil {
			said(b.Last())
		}
		return ctx.Err()
	})
	f.at = end
	switch {
	case errors.Is(err, events.ErrBroken):
		f.broken = err
	case err != nil && !errors.Is(err, errReached):
		return fmt.Errorf("read the log: %w", err)
	}
	return f.broken
}

func (f *fold) add(r events.Recorded) error {
	f.audit.Add(r)
	f.last = &r
	if err := f.rows.Apply(&r); err != nil {
		return err
	}
	if _, err := f.docs.Apply(nil, &r); err != nil {
		f.frozen = append(f.frozen, err)
	}
	return nil
}

// log reads the whole log. A broken one is a finding, and nothing else can be compared with it.
func (r *run) log(ctx context.Context, wanted bool) error {
	began := r.cfg.Now()
	r.say(wire.VerifyProgress{Section: verify.Log, Doing: "decisions"})
	err := r.fold.forward(ctx, 0, func(n uint64) { r.say(wire.VerifyProgress{Section: verify.Log, Doing: "decisions", Done: n}) })
	if err != nil && r.fold.broken == nil {
		return err
	}
	at := r.fold.at
	r.answer.Decision, r.answer.Blocks, r.answer.Term, r.answer.Head, r.answer.LiveRuns = at.Number, at.Seq, at.Term, at.Digest, r.fold.audit.Live()
	if !wanted && r.fold.broken == nil {
		return nil
	}
	out := verify.List{Limit: maxFindings}
	if r.fold.broken != nil {
		out.Add(verify.Finding{Section: verify.Log, Severity: verify.Critical, Check: "chain", Kind: "log", ID: fmt.Sprint(at.Number), Name: fmt.Sprintf("after decision %d", at.Number),
			What: r.fold.broken.Error(), Next: "nothing after it can be trusted: keep a copy of the data; \"cloudengine audit verify\" says which decision was changed; restore the log from a backup or another server"})
	}
	for _, b := range r.fold.audit.Broken() {
		out.Add(broken(b))
	}
	out.Add(r.cloud().Overdue()...)
	r.add(wire.VerifySection{Name: verify.Log, Checked: int(at.Number), Decision: at.Number, TookMS: r.cfg.Now().Sub(began).Milliseconds()}, out)
	return nil
}

var brokenPattern = regexp.MustCompile(`^decision (\d+): (I\d+): (.*)$`)

// broken makes a finding of what commands.Audit says.
func broken(text string) verify.Finding {
	f := verify.Finding{Section: verify.Log, Severity: verify.Critical, Check: "invariant", Kind: "decision", What: text,
		Next: "\"cloudengine why\" shows what led to the decision; this is a fault of CloudEngine: keep the log, and report it"}
	if m := brokenPattern.FindStringSubmatch(text); m != nil {
		f.ID, f.Check, f.What = m[1], m[2], m[2]+": "+m[3]
	}
	return f
}
