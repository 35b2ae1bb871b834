package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"cloudengine/projections/moment/benchmoment"
)

// logsDir keeps large logs between runs.
var logsDir = filepath.Join("bin", "cache", "logs")

// measureMoments measures P11-at.
func measureMoments(ctx context.Context, b *bench, add func(Result)) error {
	b.say("P11-at: half a minute, and two more when its logs are not there yet")
	if err := os.MkdirAll(logsDir, 0o755); err != nil {
		return fmt.Errorf("make folder of the logs: %w", err)
	}
	all, err := benchmoment.Run(ctx, logsDir, b.say)
	for _, r := range all {
		add(Result{ID: r.ID, Name: r.Name, Ours: r.Ours, Unit: r.Unit, Runs: r.Runs, Note: r.Note})
	}
	return err
}
