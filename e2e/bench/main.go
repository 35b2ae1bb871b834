// Command bench measures the program's own paths against the raw limits of what they stand on, in one run and by turns, and
// prints and stores the medians.
//
//	go run ./e2e/bench            everything
//	go run ./e2e/bench P1 P6-call some of it
//
// It promises that ours and raw are measured in the same run, at the same durability, and that a case that could not be measured
// is an error, never a row. It starts what it needs in directories and a network namespace of its own and leaves nothing running.
// The figures are of one machine at one time: ratios are what counts. P6-cpu, P9 and P10-boot need root and QEMU.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Result is one row. Its JSON names are a contract with who reads bench.json.
type Result struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Ours  float64  `json:"ours"`
	Raw   *float64 `json:"raw"`   // null: there is no raw side
	Ratio *float64 `json:"ratio"` // null with Raw
	Unit  string   `json:"unit"`
	Runs  int      `json:"runs"`
	Note  string   `json:"note"` // the goal, and what bounds ours
}

// bench is what suites share: where to build and keep things, and what was built already.
type bench struct {
	dir   string // of temporary data, on a real disk: some of it is fsynced
	say   func(format string, args ...any)
	wants func(id string) bool
	built map[string]bool
	rig   *rig
}

// suite measures some ids.
type suite struct {
	ids []string // the rows that it can give
	run func(ctx context.Context, b *bench, add func(Result)) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, wanted []string, out io.Writer) (err error) {
	if err := known(wanted); err != nil {
		return err
	}
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("find the module: %w (run this in its top directory)", err)
	}
	if err := os.MkdirAll(filepath.Join("bin", "bench"), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Join("bin", "bench"), "run-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("find directory: %w", err)
	}
	began := time.Now()
	b := &bench{dir: dir, built: map[string]bool{}, wants: func(id string) bool { return selected(wanted, id) }}
	b.say = func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	defer func() { err = errors.Join(err, b.close()) }()
	return b.all(ctx, out)
}

// all runs the wanted suites one after the other. One that fails does not keep the others from running.
func (b *bench) all(ctx context.Context, out io.Writer) error {
	results, failed := []Result{}, []error{}
	heading(out)
	for _, s := range suites() {
		if !b.wantsAny(s.ids) {
			continue
		}
		err := s.run(ctx, b, func(r Result) {
			if b.wants(r.ID) {
				results = append(results, r)
				row(out, r)
			}
		})
		if err != nil {
			b.say("%s: %v", strings.Join(s.ids, ", "), err)
			failed = append(failed, fmt.Errorf("measure %s: %w", strings.Join(s.ids, ", "), err))
		}
		if err := store(results); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// close stops what suites left for each other and removes temporary data.
func (b *bench) close() error {
	err := b.rig.close()
	if err != nil {
		return fmt.Errorf("stop the rack of the measurements (its files are in %s): %w", b.dir, err)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return fmt.Errorf("remove temporary data: %w", err)
	}
	return nil
}

// wantsAny says whether a suite with these ids has a row that is asked for.
func (b *bench) wantsAny(ids []string) bool { return slices.ContainsFunc(ids, b.wants) }

// selected says whether a row is asked for: P1 means P1 and P1-64, and not P10-size.
func selected(wanted []string, id string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return w == id || strings.HasPrefix(id, w+"-") })
}

// known refuses what would select nothing.
func known(wanted []string) error {
	var all []string
	for _, s := range suites() {
		all = append(all, s.ids...)
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(all, func(id string) bool { return selected([]string{w}, id) }) {
			return fmt.Errorf("nothing is called %q; there are %s", w, strings.Join(all, ", "))
		}
	}
	return nil
}

// store replaces bin/bench.json.
func store(results []Result) error {
	raw, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	path := filepath.Join("bin", "bench.json")
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

const rowFormat = "%-16s %-44s %12s %12s %8s  %-7s %5s  %s\n"

func heading(out io.Writer) {
	fmt.Fprintf(out, rowFormat, "ID", "NAME", "OURS", "RAW", "RATIO", "UNIT", "RUNS", "NOTE")
}

func row(out io.Writer, r Result) {
	fmt.Fprintf(out, rowFormat, r.ID, r.Name, figure(&r.Ours), figure(r.Raw), figure(r.Ratio), r.Unit, fmt.Sprint(r.Runs), r.Note)
}

// figure writes a number with four digits that count, or all of those before the point.
func figure(v *float64) string {
	switch {
	case v == nil:
		return "–"
	case *v >= 1000:
		return fmt.Sprintf("%.0f", *v)
	}
	return fmt.Sprintf("%.4g", *v)
}
