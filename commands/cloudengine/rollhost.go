package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloudengine/events"
)

// powerTries bounds how often a roll switches one machine for one image: each run of the command tries once more after one that failed.
const powerTries = 5

// rollDeadline is how long a host may take to come back unless another time is given, and at least when it goes back to what it ran.
const rollDeadline = 10 * time.Minute

var errNotBack = errors.New("it did not come back with the image in time")

// host lets one machine boot an image: begun or not, it goes on from what the log holds. Ids of the intents follow from the decision that
// set the image, so that none of them is decided twice for it.
func (r *roll) host(ctx context.Context, m row, version string) error {
	m, err := r.want(ctx, m, version)
	if err != nil {
		return err
	}
	name := nameOf(m)
	if up, err := r.isUp(ctx, m, version); err != nil {
		return err
	} else if !up {
		if err := r.takeDown(ctx, m); err != nil {
			return err
		}
		began, err := r.switchPower(ctx, m)
		if err != nil {
			return err
		}
		if err := r.awaitUp(ctx, m, version, began.Add(r.flags.deadline)); err != nil {
			return r.giveBack(ctx, m, err)
		}
	}
	if err := r.putBack(ctx, m); err != nil {
		return err
	}
	r.talk("%s: runs image %s and has reported", name, version)
	return nil
}

// id of a step of the present change of a machine's image.
func (r *roll) id(m row, step string) events.IntentID {
	return events.FreeFormID(r.c.Actor(), "bootimage "+step+" "+m.text("id")+" "+m.text("image_decision"))
}

// isUp says whether a machine runs an image and its host has reported completely.
func (r *roll) isUp(ctx context.Context, m row, version string) (bool, error) {
	if optionalText(m, "image") != version || m.text("state") != "up" {
		return false, nil
	}
	h, err := r.hostOf(ctx, m)
	return err == nil && h != nil && h["ready"] == true && h["silent"] != true && h.text("boot") == m.text("boot"), err
}

// hostOf gives the host that a machine is; nil: it never enrolled as one.
func (r *roll) hostOf(ctx context.Context, m row) (row, error) {
	h, err := r.get(ctx, r.c, events.KindHost, m.text("id"), events.ReadRequest{})
	if isNotFound(err) {
		return nil, nil
	}
	return h, err
}

// takeDown takes a host out of placement and waits until it runs nothing. It ends no VM.
func (r *roll) takeDown(ctx context.Context, m row) error {
	name := nameOf(m)
	h, err := r.hostOf(ctx, m)
	if err != nil || h == nil {
		return err
	}
	if _, err := r.do(ctx, r.id(m, "cordon"), events.KindHost, "cordon", name, map[string]any{"host": m.text("id")}); err != nil {
		return err
	}
	end := time.Now().Add(r.flags.empty)
	for told := false; ; {
		if h, err = r.hostOf(ctx, m); err != nil || h == nil {
			return err
		}
		n := h.number("vms")
		if n == 0 {
			return nil
		}
		if !time.Now().Before(end) {
			return fmt.Errorf("%s runs, or may run, %d VMs, and is not switched off: stop them (cloudengine vm list --host %s), then run the same command again; "+
				"it stays out of placement until then (cloudengine host uncordon %s puts it back)", name, n, name, name)
		}
		if !told {
			told = true
			r.talk("%s: waiting for %d VMs to be gone", name, n)
		}
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
}

func (r *roll) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}

// switchPower switches a machine off and on, once for the present change of its image, and gives when that was asked for. A machine whose
// power could not be switched at an earlier run of the command is tried again.
func (r *roll) switchPower(ctx context.Context, m row) (time.Time, error) {
	name := nameOf(m)
	if m["bmc_address"] == nil {
		return time.Time{}, fmt.Errorf("%s has no BMC: boot it anew by hand, then run the same command again", name)
	}
	for try := 1; try <= powerTries; try++ {
		id := r.id(m, "power "+strconv.Itoa(try))
		op, err := r.get(ctx, r.c, events.KindOperation, string(id), events.ReadRequest{})
		if isNotFound(err) {
			args := map[string]any{"machine": m.text("id"), "action": events.PowerCycle}
			answer, err := r.do(ctx, id, events.KindMachine, "power", name, args)
			if err != nil {
				return time.Time{}, err
			}
			r.talk("%s: power off and on (decision %d)", name, answer.Number)
			if op, err = r.get(ctx, r.c, events.KindOperation, string(id), events.ReadRequest{WaitFor: answer.Number}); err != nil {
				return time.Time{}, err
			}
			return r.powered(ctx, op)
		}
		if err != nil {
			return time.Time{}, err
		}
		if s := op.text("state"); s == "done" || s == "running" {
			return r.powered(ctx, op)
		}
	}
	return time.Time{}, fmt.Errorf("the power of %s could not be switched in %d tries: see cloudengine op list, and cloudengine machine show %s", name, powerTries, name)
}

// powered waits for the end of a power operation.
func (r *roll) powered(ctx context.Context, op row) (time.Time, error) {
	began, err := time.Parse(time.RFC3339Nano, op.text("started_at"))
	if err != nil {
		return began, fmt.Errorf("read when operation %s began: %w", op.text("id"), err)
	}
	for op.text("state") == "running" {
		if err := r.pause(ctx); err != nil {
			return began, err
		}
		if op, err = r.get(ctx, r.c, events.KindOperation, op.text("id"), events.ReadRequest{}); err != nil {
			return began, err
		}
	}
	return began, ended(op)
}

// awaitUp waits until a machine has enrolled with an image and reported.
func (r *roll) awaitUp(ctx context.Context, m row, version string, deadline time.Time) error {
	old, name := optionalText(m, "boot"), nameOf(m)
	r.talk("%s: waiting until it has enrolled with image %s, until %s", name, version, deadline.Local().Format(time.TimeOnly))
	for {
		now, err := r.machine(ctx, m)
		if err != nil {
			return err
		}
		up, err := r.isUp(ctx, now, version)
		if up || err != nil {
			return err
		}
		if boot := optionalText(now, "boot"); boot != old && optionalText(now, "image") != version {
			return fmt.Errorf("%s booted image %s instead of %s: %w", name, optionalText(now, "image"), version, errNotBack)
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("%s is %s and runs image %s after %s: %w", name, now.text("state"), optionalText(now, "image"), r.flags.deadline, errNotBack)
		}
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
}

// giveBack sets a machine that did not come up back to the image before and boots that; the roll ends with why in any case.
func (r *roll) giveBack(ctx context.Context, m row, why error) error {
	if !errors.Is(why, errNotBack) {
		return why // nothing is known of the image
	}
	name, before := nameOf(m), optionalText(m, "image_before")
	if before == "-" {
		return fmt.Errorf("the roll ends: %w; no image before is known for %s: name one (cloudengine machine set-image %s VERSION)", why, name, name)
	}
	r.talk("%s: %v; it goes back to image %s", name, why, before)
	m, err := r.want(ctx, m, before)
	if err == nil {
		var began time.Time
		if began, err = r.switchPower(ctx, m); err == nil {
			err = r.awaitUp(ctx, m, before, began.Add(max(r.flags.deadline, rollDeadline)))
		}
	}
	if err != nil {
		return fmt.Errorf("the roll ends: %w; and %s could not be rolled back: %w; it stays out of placement", why, name, err)
	}
	if err := r.putBack(ctx, m); err != nil {
		return err
	}
	return fmt.Errorf("the roll ends: %w; %s runs image %s again", why, name, before)
}

// putBack puts a host back into placement, if this change of its image, or the one that it undoes, took it out.
func (r *roll) putBack(ctx context.Context, m row) error {
	h, err := r.hostOf(ctx, m)
	if err != nil || h == nil || h["cordoned"] != true {
		return err
	}
	taken, err := r.tookOut(ctx, m)
	if err != nil {
		return err
	}
	if !taken {
		r.talk("%s stays out of placement: others took it out (cloudengine host uncordon %s)", nameOf(m), nameOf(m))
		return nil
	}
	_, err = r.do(ctx, r.id(m, "uncordon"), events.KindHost, "uncordon", nameOf(m), map[string]any{"host": m.text("id")})
	return err
}

// tookOut says whether the last cordon of the host that changed something was a roll's.
func (r *roll) tookOut(ctx context.Context, m row) (bool, error) {
	ops, err := r.all(ctx, r.c, events.KindOperation, events.ReadRequest{Filter: map[string]string{
		"kind": string(events.KindHost), "verb": "cordon", "object": m.text("id"), "outcome": string(events.Accepted),
	}})
	if err != nil {
		return false, err
	}
	var last row
	for _, op := range ops {
		if last == nil || op.number("number") > last.number("number") {
			last = op
		}
	}
	return last != nil && strings.HasPrefix(optionalText(last, "cause"), causeOfRoll), nil
}
