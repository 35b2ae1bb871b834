// Package verifier holds the whole cloud against its log: it folds the log anew, from its first decision, asks the database, the DESIRED
// stream, every host, every storage node and proxy, the files and, if wanted, every BMC, and has package verify compare.
//
// It promises that it changes nothing, that who does not answer is told as not known, that a run ends within its context, and that a
// difference counts only if it was there in several looks. It trusts no snapshot and no memory of a running server.
package verifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/verify"
)

// Log is the log: Load gives the blocks after a position, in order, and checks the chain on the way.
type Log interface {
	Load(ctx context.Context, from events.Position, f func(events.Position, *events.Block) error) (events.Position, error)
}

// Database is the read models as of one moment.
type Database interface {
	Checkpoint() verify.Checkpoint
	Dropped(ctx context.Context) ([]verify.DroppedRow, error) // what people gave up
	// Compare compares everything with the rows as they should be at the checkpoint.
	Compare(ctx context.Context, m *projections.Memory, out *verify.List) (checked int, err error)
	Close() error
}

// Config is what is asked. Log is needed; a section whose source is nil is told as unanswered.
type Config struct {
	Log        Log
	Database   func(ctx context.Context) (Database, error)
	Documents  func(ctx context.Context) (map[string][]byte, error) // the last message of each subject of DESIRED
	Ask        func(ctx context.Context, m events.MachineID) (wire.InspectAnswer, error)
	AskStorage func(ctx context.Context, m events.MachineID) (wire.InspectAnswer, error) // what a storage node or proxy sees of storage
	// AskNetworks is what a host sees of networks.
	AskNetworks func(ctx context.Context, m events.MachineID) (wire.InspectAnswer, error)

	Blob   func(ctx context.Context, b events.Blob) error // nil: it is there, with this digest and size
	Secret func(name, fingerprint string) error           // nil: its value can be opened and is the one that the log recorded
	Image  func(version string) error                     // nil: our copy of this boot image is whole; may be nil
	Power  func(ctx context.Context, m events.MachineID) (state string, err error)

	Now     func() time.Time // time.Now
	Looks   int              // at what moves; 0 = 3
	Pause   time.Duration    // between two looks; 0 = 2 s
	AskTime time.Duration    // for one host's answer; 0 = 15 s
	Behind  time.Duration    // how long the database is waited for; 0 = 10 s
}

// maxFindings bounds the findings of one section that are told.
const maxFindings = 200

// Verifier verifies. One Run at a time; Progress may be called meanwhile.
type Verifier struct {
	cfg Config

	mu       sync.Mutex
	progress wire.VerifyProgress
}

// New makes a verifier.
func New(cfg Config) *Verifier {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Looks == 0 {
		cfg.Looks = 3
	}
	if cfg.Pause == 0 {
		cfg.Pause = 2 * time.Second
	}
	if cfg.AskTime == 0 {
		cfg.AskTime = 15 * time.Second
	}
	if cfg.Behind == 0 {
		cfg.Behind = 10 * time.Second
	}
	return &Verifier{cfg: cfg}
}

// Default are the sections that are verified when none is named.
var Default = []string{verify.Log, verify.Rows, verify.Desired, verify.Hosts, verify.Storage, verify.Networks, verify.Files}

// Known says whether there is a section of that name.
func Known(section string) bool { return section == verify.Power || slices.Contains(Default, section) }

// Progress tells how far a run is.
func (v *Verifier) Progress() wire.VerifyProgress {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.progress
}

func (v *Verifier) say(p wire.VerifyProgress) {
	p.Running = true
	v.mu.Lock()
	defer v.mu.Unlock()
	v.progress = p
}

// run is one verification.
type run struct {
	*Verifier
	fold   *fold
	answer wire.CloudVerifyAnswer
}

// Run verifies sections, until ctx ends. The error is that the log could not be read at all; a log that is broken is a finding.
func (v *Verifier) Run(ctx context.Context, sections []string) (wire.CloudVerifyAnswer, error) {
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.progress = wire.VerifyProgress{}
	}()
	r := &run{Verifier: v, fold: newFold(v.cfg.Log)}
	r.answer.Findings, r.answer.Sections = []verify.Finding{}, []wire.VerifySection{}
	if err := r.log(ctx, slices.Contains(sections, verify.Log)); err != nil {
		return r.answer, err
	}
	for _, s := range []struct {
		name string
		do   func(context.Context, *verify.List) (int, error)
	}{{verify.Rows, r.rows}, {verify.Desired, r.documents}, {verify.Hosts, r.hosts}, {verify.Storage, r.storage}, {verify.Networks, r.networks}, {verify.Files, r.files}, {verify.Power, r.power}} {
		if slices.Contains(sections, s.name) {
			r.section(ctx, s.name, s.do)
		}
	}
	verify.Sort(r.answer.Findings)
	r.answer.Clean = verify.Clean(r.answer.Findings) && r.answer.More == 0
	return r.answer, nil
}

// section runs one section. That it could not be done is told as unanswered.
func (r *run) section(ctx context.Context, name string, do func(context.Context, *verify.List) (int, error)) {
	began := r.cfg.Now()
	r.say(wire.VerifyProgress{Section: name})
	out := verify.List{Limit: maxFindings}
	checked, err := 0, r.fold.broken
	if err == nil {
		checked, err = do(ctx, &out)
	}
	if err != nil {
		out.Limit = 0
		out.Add(undone(name, err))
	}
	r.add(wire.VerifySection{Name: name, Checked: checked, Decision: r.fold.rows.At(), TookMS: r.cfg.Now().Sub(began).Milliseconds()}, out)
}

func undone(section string, err error) verify.Finding {
	why := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		why = "the time was over (" + why + ")"
	}
	return verify.Finding{Section: section, Severity: verify.Unknown, Check: "undone", Kind: "section", ID: section, What: "it could not be verified to its end: " + why, Have: "?",
		Next: "ask again, with a longer --timeout if time was over; the server's log tells what is down"}
}

func (r *run) add(s wire.VerifySection, out verify.List) {
	for _, f := range out.All {
		switch f.Severity {
		case verify.Unknown:
			s.Unanswered++
		case verify.Settling:
			s.Settling++
		case verify.Note:
		default:
			s.Findings++
		}
	}
	s.Findings += out.More
	r.answer.More += out.More
	r.answer.Findings = append(r.answer.Findings, out.All...)
	r.answer.Sections = append(r.answer.Sections, s)
}

// steady looks until nothing is found, or the last looks, so many, agree on what is. If they do not, and nothing explains it, it looks on,
// twice as often at most.
func (r *run) steady(ctx context.Context, looks int, look func(context.Context) ([]verify.Finding, error)) ([]verify.Finding, error) {
	var all [][]verify.Finding
	for {
		found, err := look(ctx)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, nil
		}
		all = append(all, found)
		if len(all) == 2 && onlyUnknown(found) {
			return found, nil // who has not answered twice does not answer
		}
		if len(all) >= looks {
			last := verify.Steady(all[len(all)-looks:])
			if len(all) >= 2*looks || !verify.Doubtful(last) {
				return last, nil
			}
		}
		timer := time.NewTimer(r.cfg.Pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("look again: %w", ctx.Err())
		case <-timer.C:
		}
	}
}

func onlyUnknown(found []verify.Finding) bool {
	return !slices.ContainsFunc(found, func(f verify.Finding) bool { return f.Severity != verify.Unknown })
}

// cloud is what the log says now.
func (r *run) cloud() *verify.Cloud {
	return &verify.Cloud{Rows: r.fold.rows, Docs: r.fold.docs, Now: r.cfg.Now()}
}
