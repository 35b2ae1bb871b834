package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"cloudengine/events"
)

const (
	bootRuns = 3
	bareSays = "bench: dom0 has a shell" // printed by the shell of e2e/bench/bare
)

// bootTimes is one boot of each side.
type bootTimes struct{ ours, ready, bare time.Duration }

// measureBoot measures P10-boot: both sides boot the same machine over the same network from the same server, by turns. Ours ends
// when the decision on its enrolment is heard of; the raw one when a shell runs in dom0, without network, daemons or agent.
func measureBoot(ctx context.Context, b *bench, add func(Result)) error {
	bare, _, err := b.bareImage(ctx)
	if err != nil {
		return err
	}
	r, err := b.raise(ctx)
	if err != nil {
		return err
	}
	ours, _, err := b.image(ctx)
	if err != nil {
		return err
	}
	if err := r.quiet(ctx); err != nil {
		return err
	}
	var enrolled, ready, shell, ratios []float64
	for i := range bootRuns {
		t, err := r.bootBoth(ctx, bare, ours)
		if err != nil {
			return err
		}
		b.say("P10-boot, run %d: enrolled after %.1f s (ready for VMs %.1f s), bare shell %.1f s", i+1, t.ours.Seconds(), t.ready.Seconds(), t.bare.Seconds())
		enrolled, ready, shell = append(enrolled, t.ours.Seconds()), append(ready, t.ready.Seconds()), append(shell, t.bare.Seconds())
		ratios = append(ratios, t.ours.Seconds()/t.bare.Seconds())
	}
	ratio, raw := median(ratios), median(shell)
	verdict := "goal ≤ 1.3 met"
	if ratio > 1.3 {
		verdict = "goal ≤ 1.3 MISSED"
	}
	add(Result{ID: "P10-boot", Name: "power on → enrolled, against → shell in bare dom0", Ours: median(enrolled), Raw: &raw, Ratio: &ratio, Unit: "s", Runs: bootRuns,
		Note: fmt.Sprintf("%s; 3 runs by turns, ratio: median of pairs; same machine (QEMU without KVM), netboot, Xen and kernel; ready for VMs after %.1f s; "+
			"ours adds drivers, DHCP, Xen's daemons, the agent", verdict, median(ready))})
	return nil
}

// quiet stops the first VM, so that the machine may be switched off.
func (r *rig) quiet(ctx context.Context) error {
	vm, err := r.id(ctx, events.KindVM, "web1")
	if err != nil {
		return err
	}
	return through(ctx, r.c, r.w, events.KindVM, "stop", map[string]any{"vm": vm})
}

// bootBoth boots bare and then ours, and leaves ours running.
func (r *rig) bootBoth(ctx context.Context, bare, ours string) (t bootTimes, err error) {
	on, err := r.boot(ctx, bare, func(ctx context.Context, before int64) error {
		return r.serial(ctx, before, "a shell", func(text string) bool { return strings.Contains(text, bareSays) })
	})
	if err != nil {
		return t, fmt.Errorf("boot bare dom0: %w", err)
	}
	t.bare = time.Since(on)
	on, err = r.boot(ctx, ours, func(context.Context, int64) error { return nil })
	if err != nil {
		return t, fmt.Errorf("boot with the agent: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	at, err := r.w.enrolledAfter(ctx, r.machine, on)
	if err != nil {
		return t, err
	}
	t.ours = at.Sub(on)
	err = r.w.hostReady(ctx, r.machine)
	t.ready = time.Since(on)
	return t, err
}

// boot switches the machine off and on with an image, and returns when ready does.
func (r *rig) boot(ctx context.Context, image string, ready func(ctx context.Context, before int64) error) (on time.Time, err error) {
	if err := r.powerOff(ctx); err != nil {
		return on, err
	}
	if err := r.serve(image); err != nil {
		return on, err
	}
	on, before, err := r.powerOn(ctx)
	if err != nil {
		return on, err
	}
	return on, ready(ctx, before)
}
