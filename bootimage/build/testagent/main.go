// Command testagent stands in for noded in tests of the boot image: it brings the machine up, keeps it up and says so.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"cloudengine/workers/boot"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := boot.Up(ctx, log)
	if err != nil {
		log.Error("testagent: machine is not up", "err", err)
		os.Exit(1)
	}
	if err := boot.Watch(ctx, log, c); err != nil {
		log.Error("testagent: machine is up no longer", "err", err)
		os.Exit(1)
	}
}
