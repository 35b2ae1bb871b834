package main

import (
	"strconv"
	"strings"
	"time"

	"cloudengine/commands/dispatch/plane"
	"cloudengine/commands/filesystem"
	"cloudengine/projections/moment"

	"github.com/spf13/cobra"
)

// snapshotPause is how often the log is looked at for a snapshot that is due.
const snapshotPause = 5 * time.Second

// snapshotRoom is how much of the disk may be used when a snapshot is made: they must not be what fills it.
const snapshotRoom = 0.85

// usedOf tells how much of a directory's file system is used, 0 to 1; 0 if that cannot be told.
func usedOf(dir string) float64 {
	room, err := filesystem.RoomOf(dir)
	if err != nil {
		return 0
	}
	return room.Share()
}

// openPast opens the snapshots, and lets reads name a moment.
func (s *server) openPast(p *plane.Plane) error {
	var err error
	s.past, err = moment.Open(moment.Options{Dir: s.path("snapshots"), Log: p.Journal, Logger: s.log.With("part", "snapshots"), Version: version(),
		Full: func() bool { return usedOf(s.opts.data) > snapshotRoom }})
	if err != nil {
		return err
	}
	s.parts.onStop("snapshots", s.past.Close)
	s.reader.rows.SetPast(s.past)
	return nil
}

// timeForms are the forms in which people write times, beside RFC 3339. Without a zone they mean the local one.
var timeForms = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"}

const momentHelp = "number of a decision, time (2026-11-22T15:04:05Z, \"2026-11-22 15:04\", 2026-11-22, \"2h ago\") or now"

// moment reads what --at, --from and --to say and gives what the bus wants: a number, a time in RFC 3339, or "now".
func momentText(flag, text string, now time.Time) (string, error) {
	if text == "" || text == "now" {
		return text, nil
	}
	if _, err := strconv.ParseUint(text, 10, 64); err == nil {
		return text, nil
	}
	if ago, ok := strings.CutSuffix(text, " ago"); ok {
		if d, err := parseSpan(strings.TrimSpace(ago)); err == nil && d >= 0 {
			return now.Add(-d).UTC().Format(time.RFC3339Nano), nil
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC().Format(time.RFC3339Nano), nil
	}
	for _, form := range timeForms {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t.UTC().Format(time.RFC3339Nano), nil
		}
	}
	return "", usagef("--%s %s: want a %s", flag, text, momentHelp)
}

// parseSpan reads a duration, also in days.
func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// atFlag adds --at to a command that reads. Its value is ready after the command line was read.
type atFlag string

func (f *atFlag) add(cmd *cobra.Command) {
	cmd.Flags().Var(f, "at", "what was then: "+momentHelp)
}

// String gives what the bus wants.
func (f *atFlag) String() string { return string(*f) }

// Type names the value in --help.
func (f *atFlag) Type() string { return "TIME|SEQ" }

// Set reads the flag.
func (f *atFlag) Set(text string) error {
	at, err := momentText("at", text, time.Now())
	*f = atFlag(at)
	return err
}
