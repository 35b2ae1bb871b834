package md

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Values of sync_action that are named here.
const (
	ActionIdle    = "idle"
	ActionFrozen  = "frozen" // nothing is copied or compared, and nothing begins by itself
	ActionRecover = "recover"
	ActionResync  = "resync"
	ActionCheck   = "check"
)

// Sync is what sysfs says of an array's copying and comparing.
type Sync struct {
	MaxKiB  int    // sync_speed_max, per second
	MinKiB  int    // sync_speed_min, per second: so much is done even if others read and write
	RateKiB int    // sync_speed, per second; 0: none is known
	Left    uint64 // sectors that are left of what is under way
	Until   uint64 // sync_max in sectors; 0: none ("max")
	Pending bool   // resync_start: legs have to be made equal, from there on
	Differ  uint64 // mismatch_cnt in sectors, of the last or present check or resync
}

func readSync(r *attributes) Sync {
	s := Sync{MaxKiB: first(r.maybe("md/sync_speed_max")), MinKiB: first(r.maybe("md/sync_speed_min")), RateKiB: first(r.maybe("md/sync_speed"))}
	var done, total uint64
	if _, err := fmt.Sscanf(r.maybe("md/sync_completed"), "%d / %d", &done, &total); err == nil && done <= total {
		s.Left = total - done
	}
	s.Until = count(r.maybe("md/sync_max"))
	s.Differ = count(r.maybe("md/mismatch_cnt"))
	_, err := strconv.ParseUint(r.maybe("md/resync_start"), 10, 64) // "none" otherwise
	s.Pending = err == nil
	return s
}

func count(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Needs says what the array has to copy, whether it does or is frozen: ActionRecover, ActionResync, or nothing.
func (a Array) Needs() string {
	if a.SyncAction == ActionRecover || a.SyncAction == ActionResync {
		return a.SyncAction
	}
	for _, m := range a.Members {
		if (a.Degraded > 0 || m.Is(replacement)) && !m.Is("in_sync") && !m.Is("faulty") {
			return ActionRecover
		}
	}
	if a.Sync.Pending {
		return ActionResync
	}
	return ""
}

// ETA gives the seconds until what is under way is done at the present rate; 0: not known.
func (a Array) ETA() int {
	if a.Sync.RateKiB <= 0 {
		return 0
	}
	return int(a.Sync.Left / 2 / uint64(a.Sync.RateKiB))
}

// gentleKiB is what is copied per second even while others read and write: the kernel's own value. A lower limit lowers it too, for md
// keeps to its limit only above it.
const gentleKiB = 1000

// MinFor gives the sync_speed_min that goes with a limit.
func MinFor(limitKiB int) int { return min(gentleKiB, limitKiB) }

// SetSpeed bounds what an array copies and compares, in KiB per second. Between the least and that, md gives way to what others read and write.
func (k *Kernel) SetSpeed(_ context.Context, name string, limitKiB int) error {
	for attribute, n := range map[string]int{"sync_speed_max": limitKiB, "sync_speed_min": MinFor(limitKiB)} {
		if err := set(name, attribute, strconv.Itoa(n)); err != nil {
			return fmt.Errorf("set %s of %s to %d: %w", attribute, name, n, err)
		}
	}
	return nil
}

// Freeze stops what is being copied or compared, and lets nothing begin. How far a recovery or a resync was is kept in superblocks and the
// bitmap; a check is lost.
func (k *Kernel) Freeze(_ context.Context, name string) error {
	if err := set(name, "sync_action", ActionFrozen); err != nil {
		return fmt.Errorf("freeze %s: %w", name, err)
	}
	return nil
}

var errBusySync = errors.New("something is missing, or being copied or compared")

// Check begins to compare all copies. While it is not complete, sync_max is a number: md forgets that at its end, and keeps it if the check
// is broken off.
func (k *Kernel) Check(_ context.Context, name string) error {
	a, err := readArray(filepath.Join("/sys/block", name))
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	if a.SyncAction != ActionIdle || a.Needs() != "" || a.Degraded > 0 {
		return fmt.Errorf("check %s: %w: %s, %d legs are missing", name, errBusySync, strings.TrimSpace(a.SyncAction+" "+a.Needs()), a.Degraded)
	}
	chunk := uint64(max(1, a.ChunkKiB)) * 2
	end := (a.Sectors + chunk - 1) / chunk * chunk
	for _, x := range [][2]string{{"sync_min", "0"}, {"sync_max", strconv.FormatUint(end+chunk, 10)}, {"sync_action", ActionCheck}} {
		if err := set(name, x[0], x[1]); err != nil {
			return fmt.Errorf("check %s: set %s: %w", name, x[0], err)
		}
	}
	return nil
}
