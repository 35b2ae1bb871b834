package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
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

// consolePath is the control domain's console. The log goes there too, unless a shell has it.
const consolePath = "/dev/console"

// hold is what the agent does on a machine that nobody has made known: it waits until somebody does, and then boots the machine anew, so
// that it gets what the others get. It has no token, and does nothing else.
func hold(ctx context.Context, c boot.Config, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return boot.Watch(ctx, log, c) })
	group.Go(func() error {
		if err := held(ctx, c, holdAsk, func(word string, err error) { tellHeld(log, c, word, err) }); err != nil {
			return err
		}
		log.Info("this machine was made known: it boots anew")
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
func held(ctx context.Context, c boot.Config, every time.Duration, tell func(word string, err error)) error {
	var told time.Time
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		word, err := askHold(ctx, c)
		if word == "boot" {
			return nil
		}
		if time.Since(told) >= holdTell {
			told = time.Now()
			tell(word, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// tellHeld says what to do: in the log, and to who stands before the machine.
func tellHeld(log *slog.Logger, c boot.Config, word string, err error) {
	text := "this machine is not known, and not wanted: switch it off, or make it known with: cloudengine machine add NAME --mac " + c.Holding
	switch {
	case err != nil:
		text = "this machine is not known, and the server that it booted from does not answer"
	case word == "hold":
		text = "this machine is not known: it waits. Make it known with: cloudengine machine add NAME --discovered " + c.Holding
	}
	log.Warn(text, "err", err)
	console, err := os.OpenFile(consolePath, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return // it has none
	}
	fmt.Fprintf(console, "\r\nCloudEngine: %s\r\n", text)
	_ = console.Close() // nothing is kept there
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
