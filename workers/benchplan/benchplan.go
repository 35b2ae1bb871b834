// Package benchplan measures what it costs to decide what a machine of the storage chain must do, as it grows: P13 of the design's performance table.
//
// It measures the pure planners on machines that are as their documents say, which is what they look at nearly always. What it takes to observe a
// machine and to carry a plan out is the kernel's, and is not in it. It touches no kernel and starts nothing.
package benchplan

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Result is one line of bench.json. There is no raw side.
type Result struct {
	ID   string
	Name string
	Ours float64 // ms
	Unit string
	Runs int
	Note string
}

const runs = 15

// line is one case at several sizes.
type line struct {
	id, name string
	sizes    []int
	made     func(ctx context.Context, n int) (once func() error, err error)
}

func lines() []line {
	return []line{
		{"P13-luns", "plan of a storage node whose disks are all exported as its documents say", []int{10, 100, 1000}, nodePlanned},
		{"P13-volumes", "plan of a proxy that owns an array whose volumes all have their records", []int{100, 1000, 10000}, arrayPlanned},
		{"P13-disks", "plan of a host whose domains' disks are all mapped", []int{10, 100, 1000}, hostPlanned},
	}
}

// IDs lists what Run can measure.
func IDs() (ids []string) {
	for _, l := range lines() {
		ids = append(ids, l.id)
		for _, n := range l.sizes {
			ids = append(ids, idOf(l, n))
		}
	}
	return ids
}

func idOf(l line, n int) string { return fmt.Sprintf("%s-%d", l.id, n) }

// Run measures the lines that are wanted, at all their sizes. The last result of a line is its largest size, and says how the cost grew.
func Run(ctx context.Context, wants func(id string) bool) (out []Result, err error) {
	for _, l := range lines() {
		if !wants(l.id) && !slices.ContainsFunc(l.sizes, func(n int) bool { return wants(idOf(l, n)) }) {
			continue
		}
		var of []Result
		for _, n := range l.sizes {
			r, err := measure(ctx, l, n)
			if err != nil {
				return out, fmt.Errorf("measure %s: %w", idOf(l, n), err)
			}
			of = append(of, r)
		}
		last, first := of[len(of)-1], of[0]
		last.ID = l.id
		times := l.sizes[len(l.sizes)-1] / l.sizes[0]
		last.Note = fmt.Sprintf("goal: linear or better; %d times as many: %.0f times as long", times, last.Ours/first.Ours)
		out = append(append(out, of...), last)
	}
	return out, nil
}

func measure(ctx context.Context, l line, n int) (Result, error) {
	once, err := l.made(ctx, n)
	if err != nil {
		return Result{}, err
	}
	var took []time.Duration
	for range runs {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		began := time.Now()
		if err := once(); err != nil {
			return Result{}, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	ms := float64(took[len(took)/2]) / float64(time.Millisecond)
	return Result{ID: idOf(l, n), Name: fmt.Sprintf("%s: %d", l.name, n), Ours: ms, Unit: "ms", Runs: runs, Note: "median"}, nil
}
