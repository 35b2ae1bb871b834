package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

const (
	cpuStarts   = 5
	cpuWindows  = 3
	cpuWindow   = 30 * time.Second
	startGoal   = 0.02
	runningGoal = 0.01
)

// sample is what had been used at one moment.
type sample struct {
	at    time.Time
	host  wire.Usage
	serve time.Duration // CPU time of the control plane and its MariaDB, on this computer
}

// spent is what was used between two samples, in seconds.
type spent struct {
	agent, tools, busy, all float64 // inside the machine; busy: of all domains; all: of all processors, idle or not
	serve, computer         float64 // on this computer; computer: of all its processors
}

// measureStart measures P6-cpu-start: what our processes take of a real Xen host while a VM starts.
func measureStart(ctx context.Context, b *bench, add func(Result)) error {
	r, err := b.raise(ctx)
	if err != nil {
		return err
	}
	if err := r.w.hostReady(ctx, r.machine); err != nil {
		return err
	}
	if err := r.quiet(ctx); err != nil {
		return err
	}
	vm, err := r.id(ctx, events.KindVM, "web1")
	if err != nil {
		return err
	}
	b.say("P6-cpu-start: %d starts", cpuStarts)
	all, err := r.watchStarts(ctx, vm)
	if err != nil {
		return err
	}
	add(share("P6-cpu-start", "CPU time of noded during a start, of all domains'", startGoal, all))
	return nil
}

// watchStarts starts and stops a VM, and gives what each start took, until it was reported running.
func (r *rig) watchStarts(ctx context.Context, vm string) ([]spent, error) {
	var all []spent
	for range cpuStarts {
		before, err := r.sample(ctx)
		if err != nil {
			return nil, err
		}
		if err := through(ctx, r.c, r.w, events.KindVM, "start", map[string]any{"vm": vm}); err != nil {
			return nil, err
		}
		after, err := r.sample(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, after.since(before))
		if err := through(ctx, r.c, r.w, events.KindVM, "stop", map[string]any{"vm": vm}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// watchRunning gives what each while took, of a guest that runs.
func (r *rig) watchRunning(ctx context.Context) ([]spent, error) {
	var all []spent
	before, err := r.sample(ctx)
	if err != nil {
		return nil, err
	}
	for range cpuWindows {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(cpuWindow):
		}
		after, err := r.sample(ctx)
		if err != nil {
			return nil, err
		}
		all, before = append(all, after.since(before)), after
	}
	return all, nil
}

// sample asks the agent and looks at the control plane. What the agent does for it counts as ours, but for its call of xl.
func (r *rig) sample(ctx context.Context) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if s.host, err = r.c.Usage(ctx, events.MachineID(r.machine)); err == nil {
			break
		}
		if ctx.Err() != nil { // an emulated host may take longer than one question may
			return s, err
		}
	}
	s.at = time.Now()
	pids, err := r.servePIDs()
	if err != nil {
		return s, err
	}
	for _, pid := range pids {
		d, err := cpuTime(pid)
		if err != nil {
			return s, err
		}
		s.serve += d
	}
	return s, nil
}

func (s sample) since(before sample) spent {
	sec := func(a, b int64) float64 { return float64(a-b) / 1000 }
	h, was := s.host, before.host
	return spent{
		agent: sec(h.AgentMS, was.AgentMS), tools: sec(h.ToolsMS, was.ToolsMS),
		busy:     sec(h.Dom0MS, was.Dom0MS) + sec(h.GuestsMS, was.GuestsMS),
		all:      sec(h.UptimeMS, was.UptimeMS) * float64(h.PCPUs),
		serve:    (s.serve - before.serve).Seconds(),
		computer: s.at.Sub(before.at).Seconds() * float64(runtime.NumCPU()),
	}
}

// cpuTime reads user and system time of a process (proc(5), stat, fields 14 and 15, in clock ticks of 10 ms).
func cpuTime(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	_, rest, _ := strings.Cut(string(raw), ") ") // its name may hold blanks
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("read CPU time of process %d: %.100q", pid, raw)
	}
	var ticks int64
	for _, v := range f[11:13] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// share makes the row: the agent's time against the time of all domains, idle time not counted.
func share(id, name string, goal float64, all []spent) Result {
	var agent, busy, ratio, capacity, tools, serve []float64
	for _, s := range all {
		agent, busy = append(agent, s.agent), append(busy, s.busy)
		ratio, capacity = append(ratio, s.agent/s.busy), append(capacity, s.agent/s.all)
		tools, serve = append(tools, s.tools/s.busy), append(serve, s.serve/s.computer)
	}
	raw, mid := median(busy), median(ratio)
	verdict := "met"
	if mid > goal {
		verdict = "MISSED"
	}
	return Result{ID: id, Name: name, Ours: median(agent), Raw: &raw, Ratio: &mid, Unit: "CPU s", Runs: len(all),
		Note: fmt.Sprintf("goal ≤ %.0f %% %s: %.1f %% of what all domains used, %.1f %% of all processors; xl, which it calls, another %.0f %% of what was used; "+
			"serve and MariaDB %.1f %% of the computer that emulates the machine. Bound by starts of xl and wake-ups of threads, which cost far more emulated", goal*100, verdict, mid*100, median(capacity)*100, median(tools)*100, median(serve)*100)}
}
