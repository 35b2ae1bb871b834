package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"cloudengine/bootimage/netboot"
	"cloudengine/e2e/rack"

	"golang.org/x/sync/errgroup"
)

// netbootInside is netboot after the program has started itself anew inside the namespace.
const netbootInside = "netboot-inside"

// serveBoot lets the machines of the rack boot an image. Their ids are their system UUIDs, and the bus that they are
// told of is the control plane's address, where nobody answers unless something was started there.
func serveBoot(ctx context.Context, r *rack.Rack, imageDir, dom0Args string) error {
	addr := r.Config().ControlAddress()
	service, err := netboot.New(netboot.Options{
		DataDir:   filepath.Join(r.Config().Dir, "netboot"),
		Interface: rack.BootBridge,
		HTTP:      "http://" + net.JoinHostPort(addr.String(), "8080"),
		Bus:       []string{"nats://" + net.JoinHostPort(addr.String(), "4222")},
		ImageDir:  imageDir,
		Dom0Args:  dom0Args,
		Log:       slog.New(slog.NewTextHandler(os.Stderr, nil)),
		OnServed: func(_ context.Context, b netboot.BootServed) error {
			fmt.Printf("%s served %s to %s, token %s\n", b.Time.Format(time.RFC3339Nano), b.Image, b.Machine, b.TokenSHA256)
			return nil
		},
	})
	if err != nil {
		return err
	}
	var machines []netboot.Machine
	for _, m := range r.Machines() {
		machines = append(machines, netboot.Machine{
			ID: m.UUID, Name: m.Name, MACs: []string{m.MAC}, Address: m.Address, Roles: []string{"host"},
		})
	}
	if err := service.SetMachines(machines); err != nil {
		return err
	}
	return serveAll(ctx, service, net.JoinHostPort(addr.String(), "8080"))
}

func serveAll(ctx context.Context, service *netboot.Service, listen string) error {
	web := &http.Server{Addr: listen, Handler: service.Handler(), ReadHeaderTimeout: 10 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return service.Run(ctx) })
	g.Go(func() error {
		if err := web.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return web.Close()
	})
	return g.Wait()
}
