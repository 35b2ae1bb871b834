package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"cloudengine/workers/boot"
)

const (
	holdAsk  = 10 * time.Second // between two questions whether the machine was made known
	holdTell = time.Minute      // between two lines on the console about what to do
)

// hold is what the agent does on a machine that nobody has made known: it waits until somebody does, and then boots the machine anew, so
// that it gets what the others get. It has no token, and does nothing else.
func hold(ctx context.Context, c boot.Config, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return boot.Watch(ctx, log, c) })
	group.Go(func() error {
		if err := held(ctx, c, log, holdAsk); err != nil {
			return err
		}
		unix.Sync()
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
			return fmt.Errorf("boot anew: %w", err)
		}
		<-ctx.Done() // it takes a moment
		return nil
	})
	return group.Wait()
}

// held asks until the machine was made known, and returns nil then. An answer that does not come is asked for again, for ever.
func held(ctx context.Context, c boot.Config, log *slog.Logger, every time.Duration) error {
	var told time.Time
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		word, err := askHold(ctx, c)
		if word == "boot" {
			log.Info("this machine was made known: it boots anew")
			return nil
		}
		if time.Since(told) >= holdTell {
			told = time.Now()
			tellHeld(log, c, word, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func tellHeld(log *slog.Logger, c boot.Config, word string, err error) {
	switch {
	case err != nil:
		log.Warn("this machine is not known, and the server that it booted from does not answer", "err", err)
	case word == "hold":
		log.Info("this machine is not known: it waits. Make it known with: cloudengine machine add NAME --discovered " + c.Holding)
	default:
		log.Info("this machine is not known, and not wanted: switch it off, or make it known with: cloudengine machine add NAME --mac " + c.Holding)
	}
}

// askHold gives the word that the boot service says of this machine.
func askHold(ctx context.Context, c boot.Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HTTP+"/hold/"+c.Holding, nil)
	if err != nil {
		return "", fmt.Errorf("ask whether the machine is known: %w", err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("ask whether the machine is known: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	if err != nil {
		return "", fmt.Errorf("ask whether the machine is known: %w", err)
	}
	return strings.TrimSpace(string(body)), nil
}
