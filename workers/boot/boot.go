// Package boot brings a machine up inside the boot image: file systems, kernel modules, the boot network, the clock and,
// under Xen, the daemons of the control domain.
//
// It promises to be idempotent: noded calls Up at each of its starts, and what already stands is adopted, never torn
// down or started twice; xenstored above all, whose end would cut every domain off. It keeps nothing but small files
// below /run/cloudengine. It does not enrol, and knows nothing of domains but their console logs.
package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"cloudengine/workers/modprobe"
)

// Paths in the boot image.
const (
	ConfigPath = "/etc/cloudengine/boot.json" // what netboot told this machine about itself
	RunDir     = "/run/cloudengine"           // run-time files of noded
	XenBin     = "/usr/lib/xen-4.17/bin"      // xl and the daemons
)

// Config is what a machine knows of itself after Up.
type Config struct {
	Machine string    `json:"machine"` // UUID
	Name    string    `json:"name"`
	Token   string    `json:"token"` // secret: one-time enrolment token of this boot; never log it
	Bus     []string  `json:"bus"`   // nats:// URLs
	CA      string    `json:"ca"`    // which buses to believe, as PEM; empty: they are not encrypted
	HTTP    string    `json:"http"`  // base URL of the netboot server
	Image   string    `json:"image"` // version of the boot image
	Time    time.Time `json:"time"`  // when boot.json was served
	Roles   []string  `json:"roles"` // host, …

	Holding string `json:"holding,omitempty"` // MAC of a machine that nobody made known; it has no id, token or bus

	BootID string `json:"-"` // /proc/sys/kernel/random/boot_id
	IsXen  bool   `json:"-"` // this is Xen's control domain
	Lease  Lease  `json:"-"` // boot network
	// XenstoreLost is set when Up returned ErrXenstoreLost: no call of xl will work in this boot.
	XenstoreLost bool `json:"-"`
}

// ErrXenstoreLost says that xenstored ran in this boot and is gone. It cannot be started again: the domains would stay
// cut off from it. Up returns it together with a complete Config, so that the machine can still report.
var ErrXenstoreLost = errors.New("xenstored has died in this boot")

// Up brings the machine up and returns what it knows of itself. It may be called again at any time, also after it was
// killed half-way. It waits up to a minute for an address on the boot network.
func Up(ctx context.Context, log *slog.Logger) (Config, error) {
	c, err := up(ctx, log)
	if err != nil {
		return c, fmt.Errorf("bring machine up: %w", err)
	}
	return c, nil
}

func up(ctx context.Context, log *slog.Logger) (Config, error) {
	began := time.Now()
	if err := mountAll(log, plainMounts); err != nil {
		return Config{}, err
	}
	if err := makeDirectories(); err != nil {
		return Config{}, err
	}
	c, err := readConfig(ConfigPath)
	if err != nil {
		return Config{}, err
	}
	if err := unix.Sethostname([]byte(c.Name)); err != nil {
		return c, fmt.Errorf("set host name: %w", err)
	}
	setFarClock(log, c.Time)
	if c.IsXen, err = prepareXen(log); err != nil {
		return c, err
	}
	xenErr, err := upServices(ctx, log, &c)
	c.XenstoreLost = xenErr != nil
	if err != nil {
		return c, err
	}
	if err := syncClock(ctx, log, c.HTTP); err != nil {
		log.Warn("clock not compared with the control plane", "err", err)
	}
	log.Info("machine is up", "machine", c.Machine, "name", c.Name, "boot", c.BootID, "xen", c.IsXen,
		"interface", c.Lease.Interface, "address", c.Lease.Address, "took", time.Since(began).Round(time.Millisecond).String())
	return c, xenErr
}

// upServices loads drivers, then brings up the network and, beside it, Xen's daemons. Its first error is nil or
// ErrXenstoreLost, with which the machine is otherwise up.
func upServices(ctx context.Context, log *slog.Logger, c *Config) (xenErr, err error) {
	mods, err := modprobe.Open()
	if err != nil {
		return nil, err
	}
	if err := mods.Coldplug(log); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		c.Lease, err = upNetwork(ctx, log)
		return err
	})
	if c.IsXen {
		group.Go(func() error {
			xenErr = upXen(ctx, log, mods)
			if errors.Is(xenErr, ErrXenstoreLost) {
				return nil
			}
			return xenErr
		})
	} else {
		log.Info("not under Xen: no domains on this machine")
	}
	err = group.Wait()
	return xenErr, err
}

// readConfig reads boot.json and the boot id.
func readConfig(path string) (Config, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read boot configuration (was this machine netbooted by cloudengine?): %w", err)
	}
	c, err := parseConfig(body)
	if err != nil {
		return Config{}, err
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Config{}, fmt.Errorf("read boot id: %w", err)
	}
	c.BootID = strings.TrimSpace(string(id))
	return c, nil
}

func parseConfig(body []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(body, &c); err != nil {
		return Config{}, fmt.Errorf("decode boot configuration: %w", err)
	}
	for _, f := range []struct {
		name    string
		missing bool
	}{{"machine", c.Machine == "" && c.Holding == ""}, {"name", c.Name == ""}, {"token", c.Token == "" && c.Holding == ""},
		{"bus", len(c.Bus) == 0 && c.Holding == ""}, {"http", c.HTTP == ""}} {
		if f.missing {
			return Config{}, fmt.Errorf("decode boot configuration: no %s", f.name)
		}
	}
	return c, nil
}

// Watch keeps up what Up brought up, until ctx ends: the console daemon, the size of console logs, the lease, the
// clock. It returns nil when ctx ended, and ErrXenstoreLost as soon as xenstored is gone (unless Up has said so already).
func Watch(ctx context.Context, log *slog.Logger, c Config) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return watchNetwork(ctx, log, c.Lease) })
	group.Go(func() error { return watchClock(ctx, log, c.HTTP) })
	if c.IsXen && !c.XenstoreLost {
		group.Go(func() error { return watchXen(ctx, log) })
		group.Go(func() error { return watchConsoles(ctx, log) })
	}
	err := group.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// every calls do each period until ctx ends or do fails.
func every(ctx context.Context, period time.Duration, do func() error) error {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := do(); err != nil {
				return err
			}
		}
	}
}
