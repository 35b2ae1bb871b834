// Package benchmoment measures how long it takes to answer what was: P11-at of the design's performance table, at three sizes of the log.
//
// A question is one that nobody asked before: its moment is folded for it, and pages that it reads are in memory only if another
// question needed them. The log and its snapshots are in files. It leaves the logs in their folder, and nothing else.
package benchmoment

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/journal"
	"cloudengine/projections/moment"
	"cloudengine/projections/projectionstest/biglog"
	"cloudengine/projections/read"
)

// Result is one line of bench.json. There is no raw side.
type Result struct {
	ID   string
	Name string
	Ours float64
	Unit string
	Runs int
	Note string
}

// Sizes are the numbers of decisions that are measured.
var Sizes = []int{100_000, 300_000, 1_000_000}

const runs = 40 // questions of each form

// IDs lists what Run can measure.
func IDs() []string {
	var out []string
	for _, n := range Sizes {
		out = append(out, idOf(n))
	}
	return append(out, "P11-at")
}

func idOf(size int) string { return fmt.Sprintf("P11-at-%dk", size/1000) }

// Run measures. Logs are made in dir, once: about a minute for the largest.
func Run(ctx context.Context, dir string, say func(format string, args ...any)) ([]Result, error) {
	var out []Result
	for _, n := range Sizes {
		r, err := size(ctx, dir, n, say)
		if err != nil {
			return out, fmt.Errorf("measure %s: %w", idOf(n), err)
		}
		out = append(out, r)
	}
	last := out[len(out)-1]
	first := out[0]
	last.ID = "P11-at"
	last.Note += fmt.Sprintf("; goal < 1000; ten times the log: %.2f times as long", last.Ours/first.Ours)
	return append(out, last), nil
}

func size(ctx context.Context, dir string, n int, say func(format string, args ...any)) (Result, error) {
	srv, err := biglog.Open(ctx, dir, n, say)
	if err != nil {
		return Result{}, err
	}
	defer srv.Shutdown()
	nc, err := srv.Connect("bench")
	if err != nil {
		return Result{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return Result{}, fmt.Errorf("open JetStream: %w", err)
	}
	j, err := journal.Open(ctx, js)
	if err != nil {
		return Result{}, err
	}
	files, err := os.MkdirTemp(dir, "snapshots-")
	if err != nil {
		return Result{}, fmt.Errorf("make folder of the snapshots: %w", err)
	}
	defer os.RemoveAll(files)
	return measure(ctx, j, files, n, say)
}

func measure(ctx context.Context, j *journal.Journal, files string, n int, say func(format string, args ...any)) (Result, error) {
	began := time.Now()
	k, err := moment.Open(moment.Options{Dir: files, Log: j})
	if err != nil {
		return Result{}, err
	}
	for made := true; made; {
		if made, err = k.Make(ctx); err != nil {
			return Result{}, err
		}
	}
	took := time.Since(began)
	if err := k.Close(); err != nil { // so that no page is in memory
		return Result{}, err
	}
	if k, err = moment.Open(moment.Options{Dir: files, Log: j}); err != nil {
		return Result{}, err
	}
	defer k.Close()
	say("%s: snapshots made in %.1f s", idOf(n), took.Seconds())
	r := read.New(nil, nil, slog.New(slog.DiscardHandler))
	r.SetPast(k)
	var times []float64
	choose := rand.New(rand.NewPCG(1, uint64(n))).IntN
	for i := range 2 * runs {
		began := time.Now()
		q := events.ReadRequest{At: fmt.Sprint(n - choose(n*9/10)), Limit: 100}
		kind := []events.Kind{events.KindVM, events.KindOperation}[i%2]
		a := r.List(ctx, read.Everything("admin"), kind, q)
		if a.Error == nil && i%4 > 1 && len(a.Items) == 100 { // one object, at another moment
			began, q = time.Now(), events.ReadRequest{At: fmt.Sprint(n - choose(n/10)), ID: fmt.Sprintf("vm%d", 1000+choose(500))}
			if a = r.Get(ctx, read.Everything("admin"), events.KindVM, q); a.Error != nil && a.Error.Code == events.CodeNotFound {
				a.Error = nil
			}
		}
		if a.Error != nil {
			return Result{}, fmt.Errorf("ask about %s at %s: %s", kind, q.At, a.Error.Message)
		}
		times = append(times, float64(time.Since(began))/float64(time.Millisecond))
	}
	sort.Float64s(times)
	return Result{ID: idOf(n), Name: fmt.Sprintf("--at in a log of %d decisions, moment not asked before", n), Ours: times[len(times)/2], Unit: "ms", Runs: len(times),
		Note: fmt.Sprintf("p99 %.0f ms; half lists of 100, half single objects; bound by reading and folding up to 5000 decisions behind a snapshot; all snapshots: %.1f s, %.0f MB",
			times[len(times)*99/100], took.Seconds(), float64(bytesIn(files))/1e6)}, nil
}

func bytesIn(dir string) int64 {
	var sum int64
	all, _ := filepath.Glob(filepath.Join(dir, "*")) // the pattern is good
	for _, path := range all {
		if info, err := os.Stat(path); err == nil {
			sum += info.Size()
		}
	}
	return sum
}
