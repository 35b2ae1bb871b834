package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"cloudengine/commands"
	"cloudengine/commands/api"
	"cloudengine/commands/api/wire"
)

// restoredMark is the content of restoredFile, as far as "serve" needs it.
type restoredMark struct {
	Number uint64 `json:"number"` // of the last decision of the backup
}

// restoredAt gives the number of the last decision of the backup that the data directory was restored from; 0: it was not.
func (s *server) restoredAt() (uint64, error) {
	b, err := os.ReadFile(s.path(restoredFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	var mark restoredMark
	if err == nil {
		err = json.Unmarshal(b, &mark)
	}
	if err == nil && mark.Number == 0 {
		err = errors.New("it names no decision")
	}
	if err != nil {
		return 0, fmt.Errorf("read what \"restore\" left in %s: %w (restore again into an empty directory)", s.path(restoredFile), err)
	}
	return mark.Number, nil
}

// noteRestored waits until the log is in its new term, and forgets that it was restored.
func (s *server) noteRestored(ctx context.Context, at uint64) error {
	if at == 0 {
		return nil
	}
	if err := s.plane.Dispatch.Wait(ctx, at+1); err != nil {
		return fmt.Errorf("wait for the new term of the restored log: %w", err)
	}
	now := s.logStatus()
	s.log.Warn("the log was restored: nothing is started before it is settled (cloudengine log status)", "term", now.Term, "last of the backup", at)
	if err := os.Remove(s.path(restoredFile)); err != nil {
		return fmt.Errorf("forget that the log was restored: %w", err)
	}
	return nil
}

// logStatus tells of the log what the fold knows.
func (s *server) logStatus() (out wire.LogStatus) {
	s.viewState(func(state *commands.State) { out = api.LogStatusOf(state) })
	return out
}
