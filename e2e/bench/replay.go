package main

import (
	"context"
	"fmt"
	"os"

	"cloudengine/commands/dispatch/benchreplay"
)

// measureReplay measures P3 and P11-audit.
func measureReplay(ctx context.Context, b *bench, add func(Result)) error {
	b.say("P3 and P11-audit: ten minutes, and three more when their logs are not there yet")
	if err := os.MkdirAll(logsDir, 0o755); err != nil {
		return fmt.Errorf("make folder of the logs: %w", err)
	}
	all, err := benchreplay.Run(ctx, logsDir, b.wants, b.say)
	for _, r := range all {
		add(compared(Result{ID: r.ID, Name: r.Name, Ours: r.Ours, Unit: r.Unit, Runs: r.Runs, Note: r.Note}, r.Raw, r.Ratio))
	}
	return err
}
