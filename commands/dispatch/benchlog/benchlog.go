// Package benchlog measures the write path against the raw limit of the same library in the same run: P1 (intents decided per second)
// and P2 (latency of an outcome) of the performance document.
//
// Ours is the whole path of the program: a client's request on the bus, through the bus accounts and commands/api to the dispatcher,
// until the outcome that was stored. The raw side is a plain nats-server with the same durability, and a service that answers each
// request when a block with as many bytes was stored: blocks one in flight, no accounts, no guard, no decoding, no decision. Both sides
// have the same clients, the same bytes and alternate. It promises no absolute figures: only ratios count.
package benchlog

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Result is one line of the benchmark.
type Result struct {
	ID    string  `json:"id"`
	Name  string  `json:"name"`
	Ours  float64 `json:"ours"` // median of the runs
	Raw   float64 `json:"raw"`
	Ratio float64 `json:"ratio"` // median of the ratios of neighbouring runs; of rates ours/raw (more is better), of times ours/raw (less is better)
	Unit  string  `json:"unit"`
	Runs  int     `json:"runs"` // of each side
	Note  string  `json:"note"`
}

const (
	runs    = 7
	runTime = 1200 * time.Millisecond
	warmUp  = 300 * time.Millisecond
)

// IDs lists what Run can measure.
func IDs() []string { return []string{"P1-1", "P1-64", "P1-1000", "P1-R3-64", "P2-p50", "P2-p99"} }

// Run measures the lines whose id is in ids, or begins with one of them and a dash; all if ids is empty. It takes about 30 s for each
// line, writes to temporary directories only, and talks to loopback only.
func Run(ctx context.Context, ids []string) ([]Result, error) {
	var out []Result
	for _, s := range []struct {
		ids     []string
		servers int
		measure func(context.Context, *sides, func(string) bool) ([]Result, error)
	}{
		{[]string{"P1-1", "P1-64", "P1-1000", "P2-p50", "P2-p99"}, 1, measureAlone},
		{[]string{"P1-R3-64"}, 3, measureThree},
	} {
		if !slices.ContainsFunc(s.ids, func(id string) bool { return wanted(ids, id) }) {
			continue
		}
		r, err := withSides(ctx, s.servers, func(both *sides) ([]Result, error) {
			return s.measure(ctx, both, func(id string) bool { return wanted(ids, id) })
		})
		if err != nil {
			return out, fmt.Errorf("measure %s: %w", strings.Join(s.ids, ", "), err)
		}
		out = append(out, r...)
	}
	return out, nil
}

func wanted(ids []string, id string) bool {
	return len(ids) == 0 || slices.ContainsFunc(ids, func(w string) bool { return id == w || strings.HasPrefix(id, w+"-") })
}

func withSides(ctx context.Context, servers int, f func(*sides) ([]Result, error)) ([]Result, error) {
	dir, err := os.MkdirTemp("", "cloudengine-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	both, err := startSides(ctx, dir, servers)
	if err != nil {
		return nil, err
	}
	defer both.stop()
	return f(both)
}

func measureAlone(ctx context.Context, both *sides, want func(string) bool) ([]Result, error) {
	var out []Result
	for _, c := range []struct {
		id      string
		clients int
	}{{"P1-1", 1}, {"P1-64", 64}, {"P1-1000", 1000}} {
		if !want(c.id) {
			continue
		}
		r, err := measureRate(ctx, both, c.id, fmt.Sprintf("intents decided per second, %d clients, one server, fsync on", c.clients), c.clients)
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	if want("P2-p50") || want("P2-p99") {
		r, err := measureLatency(ctx, both)
		if err != nil {
			return out, err
		}
		for _, x := range r {
			if want(x.ID) {
				out = append(out, x)
			}
		}
	}
	return out, nil
}

func measureThree(ctx context.Context, both *sides, _ func(string) bool) ([]Result, error) {
	r, err := measureRate(ctx, both, "P1-R3-64", "intents decided per second, 64 clients, three servers, fsync on", 64)
	return []Result{r}, err
}

// median of at least one value.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
