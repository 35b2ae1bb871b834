package boot

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A clock that is before the time in boot.json by farBehind or after it by farAhead is set from it: the machine has
	// taken some time to boot since, but not hours.
	farBehind = 2 * time.Second
	farAhead  = time.Hour
	// clockStep is the difference to the control plane's clock, half the round trip allowed for, from which it is set.
	clockStep = 500 * time.Millisecond
	// clockPeriod is the time between two comparisons.
	clockPeriod = 10 * time.Minute
	// clockTimeout bounds one comparison.
	clockTimeout = 10 * time.Second
)

// clockMark says that the clock was compared with boot.json in this boot: later that time is history.
const clockMark = RunDir + "/clock.compared"

// setFarClock corrects a clock that is plainly wrong, once per boot and before the network is up. Whatever it is
// afterwards, syncClock makes it better.
func setFarClock(log *slog.Logger, served time.Time) {
	if _, err := os.Stat(clockMark); err == nil {
		return
	}
	if err := touch(clockMark); err != nil {
		log.Error("clock not compared with boot.json", "err", err)
		return
	}
	now := time.Now()
	if !isFar(now, served) {
		return
	}
	if err := setClock(served); err != nil {
		log.Error("clock not set from boot.json", "err", err)
		return
	}
	log.Info("clock set from boot.json", "was", now.UTC().Format(time.RFC3339), "is", served.UTC().Format(time.RFC3339))
}

func isFar(now, served time.Time) bool {
	return !served.IsZero() && (now.Before(served.Add(-farBehind)) || now.After(served.Add(farAhead)))
}

// syncClock asks the netboot server for the time and sets the clock when it is off by more than clockStep.
func syncClock(ctx context.Context, log *slog.Logger, base string) error {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/time", nil)
	if err != nil {
		return fmt.Errorf("ask for the time: %w", err)
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask for the time: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 256))
	trip := time.Since(began)
	if err != nil {
		return fmt.Errorf("ask for the time: %w", err)
	}
	theirs, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(body)))
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask for the time: status %d, answer %.60q", resp.StatusCode, body)
	}
	diff := time.Until(theirs.Add(trip / 2))
	if diff.Abs() <= clockStep+trip/2 {
		return nil
	}
	if err := setClock(time.Now().Add(diff)); err != nil {
		return err
	}
	log.Info("clock set from the control plane", "by", diff.String())
	return nil
}

// watchClock compares the clock from time to time. A control plane that is away changes nothing.
func watchClock(ctx context.Context, log *slog.Logger, base string) error {
	return every(ctx, clockPeriod, func() error {
		if err := syncClock(ctx, log, base); err != nil {
			log.Warn("clock not compared", "err", err)
		}
		return nil
	})
}

func setClock(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	return nil
}
