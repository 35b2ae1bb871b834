package chain

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Written is what the guest last said about its disk.
type Written struct {
	Holds, Writes int // blocks that it found when it began, and that it has written since
	Longest       []Stall
}

// Stall is the longest write or read of ten seconds, and how many writes there had been in their end.
type Stall struct {
	Writes int
	Lasted time.Duration
}

// Since gives the longest write or read since the guest had done what was says, that is, since up to ten seconds before it said so.
func (w Written) Since(was Written) (worst time.Duration) {
	for _, s := range w.Longest {
		if s.Writes > was.Writes {
			worst = max(worst, s.Lasted)
		}
	}
	return worst
}

var (
	diskHolds  = regexp.MustCompile(`guest: disk xvda holds=(\d+)`)
	diskWrites = regexp.MustCompile(`guest: disk xvda writes=(\d+) errors=(\d+) bad=(\d+) longest_ms=(\d+)`)
)

// ErrDiskFailed says that a write or read of the guest failed, or gave another block than was written.
var ErrDiskFailed = errors.New("the guest's disk failed it")

// Parse reads the console of the guest. It has said nothing yet if there are no stalls.
func Parse(console string) (w Written, err error) {
	for _, m := range diskWrites.FindAllStringSubmatch(console, -1) {
		n, err1 := strconv.Atoi(m[1])
		ms, err2 := strconv.Atoi(m[4])
		if err := errors.Join(err1, err2); err != nil {
			return w, fmt.Errorf("read what the guest says: %w", err)
		}
		w.Writes = n
		w.Longest = append(w.Longest, Stall{n, time.Duration(ms) * time.Millisecond})
		if m[2] != "0" || m[3] != "0" {
			err = fmt.Errorf("%s errors and %s bad blocks: %w", m[2], m[3], ErrDiskFailed)
		}
	}
	if held := diskHolds.FindAllStringSubmatch(console, -1); len(held) > 0 {
		w.Holds, _ = strconv.Atoi(held[len(held)-1][1]) // digits
	}
	return w, err
}

// Writing waits until the VM has written at least so many blocks since its start. No write may have failed, and none may be lost.
func (c *Chain) Writing(ctx context.Context, blocks int) (w Written, err error) {
	err = c.Until(ctx, 5*time.Minute, fmt.Sprintf("its guest wrote %d blocks", blocks), func(ctx context.Context) (bool, string, error) {
		out, err := c.Run(ctx, "vm", "console", VM, "--bytes", "65536")
		if err != nil {
			return false, "", err
		}
		if w, err = Parse(out); err != nil {
			return false, out, fmt.Errorf("%w:\n%s", err, out)
		}
		return len(w.Longest) > 0 && w.Writes >= blocks, out, nil
	})
	return w, err
}

// Stalled waits until the guest has written so many blocks more from now on, which is after what was done to its disk, and gives its longest write
// or read since it had done what since says. What it said last may be ten seconds old.
func (c *Chain) Stalled(ctx context.Context, since Written, blocks int) (now Written, longest time.Duration, err error) {
	last, err := c.Writing(ctx, 1)
	if err != nil {
		return now, 0, err
	}
	next, err := c.Writing(ctx, last.Writes+1) // begun before, perhaps
	if err != nil {
		return now, 0, err
	}
	now, err = c.Writing(ctx, next.Writes+blocks)
	return now, now.Since(since), err
}
