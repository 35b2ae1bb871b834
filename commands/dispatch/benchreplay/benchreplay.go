// Package benchreplay measures what it takes to go through a whole log, beside the raw limit of the same library in the same run: P3
// (a server's start: decode, verify, fold) and P11-audit (a check of the log's bytes) of the performance document.
//
// The raw side is an ordered consumer of the same stream on the same server, with the same window, that counts messages. Sides
// alternate. It promises no absolute figures: only ratios count. It writes to the folder of cached logs and to temporary ones, and talks to
// loopback only.
package benchreplay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/commands"
	"cloudengine/commands/api"
	"cloudengine/events"
	"cloudengine/events/audit"
	"cloudengine/events/audit/keep"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
	"cloudengine/projections/projectionstest/biglog"
)

// Result is one line of the benchmark.
type Result struct {
	ID    string
	Name  string
	Ours  float64 // median of the runs
	Raw   float64
	Ratio float64 // median of the ratios of neighbouring runs
	Unit  string
	Runs  int
	Note  string
}

// runs of each side, at each size.
const runs = 5

// sizes are the logs' decisions; what is told is of the last, and how the cost grows up to it.
var sizes = []int{100_000, 300_000, 1_000_000}

// IDs lists what Run can measure.
func IDs() []string { return []string{"P3", "P11-audit", "P3-20", "P11-audit-20", "P11-audit-rules"} }

// line is one that can be measured.
type line struct {
	id, name, unit, note string
	rate                 bool // tell decisions per second, and more is better
	run                  func(*side, context.Context) error
	all                  []figures
}

// Run measures the lines that want names, on logs that are kept in dir. It takes about ten minutes, and three more when the logs are
// not there yet.
func Run(ctx context.Context, dir string, want func(id string) bool, say func(format string, args ...any)) ([]Result, error) {
	var out []Result
	for _, group := range []struct {
		sizes []int
		open  opener
		lines []*line
	}{
		{sizes, openAlone, []*line{
			{id: "P3", name: "replay: decode, verify, fold", rate: true, unit: "decisions/s", run: (*side).replay,
				note: "goal 0.6; one decision in each block, as a cloud writes that decides one thing at a time; server and reader share this machine's CPUs"},
			{id: "P11-audit", name: "audit verify", unit: "s", run: (*side).audit,
				note: "goal 2, less is better; one decision in each block; chain, tree, what was hashed before"},
		}},
		{sizes, biglog.Open, []*line{
			{id: "P3-20", name: "replay, about 20 decisions in each block", rate: true, unit: "decisions/s", run: (*side).replay,
				note: "no goal: the raw side's cost is that of messages, ours that of decisions"},
			{id: "P11-audit-20", name: "audit verify, about 20 decisions in each block", unit: "s", run: (*side).audit,
				note: "less is better"},
			{id: "P11-audit-rules", name: "audit verify --invariants, about 20 in each block", unit: "s", run: (*side).rules,
				note: "less is better; every decision is decoded and folded"},
		}},
	} {
		for _, n := range group.sizes {
			if err := measure(ctx, dir, n, group.open, group.lines, want, say); err != nil {
				return out, err
			}
		}
		for _, l := range group.lines {
			if len(l.all) > 0 {
				out = append(out, l.result())
			}
		}
	}
	return out, nil
}

func measure(ctx context.Context, dir string, n int, open opener, lines []*line, want func(string) bool, say func(string, ...any)) (err error) {
	var s *side
	for _, l := range lines {
		if !want(l.id) {
			continue
		}
		if s == nil {
			if s, err = openSide(ctx, dir, n, open, say); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
		}
		f, err := s.compare(ctx, func(ctx context.Context) error { return l.run(s, ctx) })
		if err != nil {
			return fmt.Errorf("measure %s with %d decisions: %w", l.id, n, err)
		}
		say("%s: %d decisions: %s", l.id, n, f)
		l.all = append(l.all, f)
	}
	return nil
}

func (l *line) result() Result {
	f := l.all[len(l.all)-1]
	r := Result{l.id, fmt.Sprintf("%s, %.0f decisions", l.name, f.decisions), f.ours, f.raw, f.ours / f.raw, l.unit, runs,
		l.note + "; µs for each decision at three sizes: " + growth(l.all)}
	if l.rate {
		r.Ours, r.Raw, r.Ratio = f.decisions/f.ours, f.decisions/f.raw, f.raw/f.ours
	}
	return r
}

// figures are medians at one size, in seconds.
type figures struct{ decisions, bytes, ours, raw, oursCPU, rawCPU float64 }

func (f figures) String() string {
	return fmt.Sprintf("%.2fs beside %.2fs (%.2f), of CPU time %.2fs beside %.2fs, %.0f bytes each",
		f.ours, f.raw, f.ours/f.raw, f.oursCPU, f.rawCPU, f.bytes/f.decisions)
}

func growth(all []figures) string {
	text := ""
	for i, f := range all {
		if i > 0 {
			text += ", "
		}
		each := 1e6 / f.decisions
		text += fmt.Sprintf("%.0f: %.2f (raw %.2f; of CPU time %.2f and %.2f)", f.decisions, f.ours*each, f.raw*each, f.oursCPU*each, f.rawCPU*each)
	}
	return text
}

// side is a server on one log.
type side struct {
	js        jetstream.JetStream
	log       *journal.Journal
	keeper    *keep.Keeper
	decisions uint64
	bytes     uint64
	stop      []func() error
}

func (s *side) close() error {
	var err error
	for _, f := range slices.Backward(s.stop) {
		err = errors.Join(err, f())
	}
	return err
}

// opener starts a server on a log of so many decisions.
type opener func(ctx context.Context, dir string, decisions int, say func(string, ...any)) (*broker.Server, error)

func openSide(ctx context.Context, dir string, decisions int, open opener, say func(string, ...any)) (s *side, err error) {
	s = &side{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	srv, err := open(ctx, dir, decisions, say)
	if err != nil {
		return s, err
	}
	s.stop = append(s.stop, func() error { srv.Shutdown(); return nil })
	nc, err := srv.Connect("bench")
	if err != nil {
		return s, err
	}
	s.stop = append(s.stop, func() error { nc.Close(); return nil })
	if s.js, err = jetstream.New(nc); err != nil {
		return s, fmt.Errorf("open JetStream: %w", err)
	}
	if s.log, err = journal.Open(ctx, s.js); err != nil {
		return s, err
	}
	tmp, err := os.MkdirTemp("", "ce-bench-audit-")
	if err != nil {
		return s, err
	}
	s.stop = append(s.stop, func() error { return os.RemoveAll(tmp) })
	if s.keeper, _, err = keep.Open(filepath.Join(tmp, "audit"), filepath.Join(tmp, "audit.key"), s.log, slog.New(slog.DiscardHandler), time.Now); err != nil {
		return s, err
	}
	h, err := s.keeper.Head(ctx)
	if err != nil {
		return s, err
	}
	s.decisions = h.Size
	_, s.bytes, err = s.raw(ctx)
	return s, err
}

// compare runs ours and the raw side by turns.
func (s *side) compare(ctx context.Context, ours func(context.Context) error) (figures, error) {
	var a, b, aCPU, bCPU, ratios []float64
	for range runs {
		began, cpu := time.Now(), cpuTime()
		if err := ours(ctx); err != nil {
			return figures{}, err
		}
		own, between := time.Since(began).Seconds(), cpuTime()
		raw, _, err := s.raw(ctx)
		if err != nil {
			return figures{}, err
		}
		a, b, ratios = append(a, own), append(b, raw), append(ratios, own/raw)
		aCPU, bCPU = append(aCPU, between-cpu), append(bCPU, cpuTime()-between)
	}
	f := figures{float64(s.decisions), float64(s.bytes), median(a), median(b), median(aCPU), median(bCPU)}
	f.raw = f.ours / median(ratios) // so that the figures have the ratio of neighbouring runs
	return f, nil
}

// replay is what a server does with the log when it starts.
func (s *side) replay(ctx context.Context) error {
	core := commands.NewState()
	_, err := s.log.Load(ctx, events.Position{}, func(_ events.Position, b *events.Block) error {
		for _, r := range b.Recorded() {
			core.Evolve(r)
		}
		return nil
	})
	if err == nil && core.Next() != s.decisions+1 {
		err = fmt.Errorf("the fold ends before %d, want %d", core.Next(), s.decisions+1)
	}
	return err
}

// audit is "audit verify" on the server.
func (s *side) audit(ctx context.Context) error { return s.verify(ctx, nil) }

// rules is "audit verify --invariants".
func (s *side) rules(ctx context.Context) error { return s.verify(ctx, api.NewRules().Block) }

func (s *side) verify(ctx context.Context, each func(*events.Block) []audit.Finding) error {
	r, err := s.keeper.Verify(ctx, each)
	if err == nil && (r.Proven != s.decisions || len(r.Findings) > 0) {
		err = fmt.Errorf("proven %d of %d, %v", r.Proven, s.decisions, r.Findings)
	}
	return err
}

// raw reads all messages and does nothing with them.
func (s *side) raw(ctx context.Context) (seconds float64, bytes uint64, err error) {
	began := time.Now()
	c, err := s.js.OrderedConsumer(ctx, events.StreamEvents, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return 0, 0, fmt.Errorf("read raw: %w", err)
	}
	done := make(chan error, 1)
	consume, err := c.Consume(func(m jetstream.Msg) {
		bytes += uint64(len(m.Data()))
		meta, err := m.Metadata()
		if err != nil || meta.NumPending == 0 {
			done <- err
		}
	}, jetstream.PullMaxBytes(16<<20), jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return 0, 0, fmt.Errorf("read raw: %w", err)
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	seconds = time.Since(began).Seconds()
	consume.Stop()
	<-consume.Closed()
	return seconds, bytes, err
}

// cpuTime gives the CPU time of this process in seconds: server and reader are both in it.
func cpuTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it has no error on Linux
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// median of at least one value.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
