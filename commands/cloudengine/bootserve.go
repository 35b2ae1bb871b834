package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"cloudengine/bootimage"
	"cloudengine/bootimage/netboot"
	"cloudengine/commands"
	"cloudengine/commands/api"
	"cloudengine/commands/dispatch"
	"cloudengine/events"

	"golang.org/x/time/rate"
)

const (
	// lookForImages is how often the image directory is looked through for versions that the log does not know.
	lookForImages = 15 * time.Second
	// discoveredQueue bounds the reports of unknown machines that wait; what is more is dropped, since such a machine asks again.
	discoveredQueue = 16
)

// discoveredRate bounds the reports of unknown machines that reach the decider: whoever sends on the boot network can make up MACs.
func discoveredRate() *rate.Limiter { return rate.NewLimiter(rate.Every(2*time.Second), 8) }

// discoveries takes what netboot tells of unknown machines and reports it, slowly.
type discoveries struct {
	s       *server
	waiting chan netboot.Discovered
}

func (s *server) newDiscoveries() *discoveries {
	return &discoveries{s: s, waiting: make(chan netboot.Discovered, discoveredQueue)}
}

// take never blocks.
func (d *discoveries) take(found netboot.Discovered) {
	select {
	case d.waiting <- found:
	default:
	}
}

func (d *discoveries) run(ctx context.Context) error {
	for limit := discoveredRate(); ; {
		select {
		case <-ctx.Done():
			return nil
		case found := <-d.waiting:
			if limit.Wait(ctx) != nil {
				return nil
			}
			d.report(ctx, found)
		}
	}
}

// report tells the log of an unknown machine. What is not taken now is told again when the machine asks again.
func (d *discoveries) report(ctx context.Context, found netboot.Discovered) {
	args := commands.ReportDiscovered{MAC: found.MAC, Class: found.Class, Serial: found.Serial, UUID: found.UUID,
		Manufacturer: found.Manufacturer, Product: found.Product}
	answer, err := d.s.submitOwn(ctx, "machine", "report_discovered", found.MAC+found.Time.String(), args)
	log := d.s.log.With("part", "netboot", "mac", found.MAC)
	switch {
	case err != nil:
		log.Warn("an unknown machine could not be reported", "error", err)
	case answer.Outcome.Status == events.Accepted:
		log.Warn("an unknown machine asks for a boot and is held (cloudengine machine discovered ls)", "class", found.Class,
			"serial", found.Serial, "product", found.Product)
	}
}

// submitOwn sends a command of netboot. The same key again is the same command.
func (s *server) submitOwn(ctx context.Context, kind events.Kind, verb, key string, args any) (events.Answer, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return events.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return s.own.Submit(ctx, commands.Command{
		Intent: events.FreeFormID(commands.ActorNetboot, verb+" "+key), Actor: commands.ActorNetboot, Kind: kind, Verb: verb, Args: raw,
	})
}

// viewState shows the log's state as this server knows it.
func (s *server) viewState(f func(*commands.State)) {
	s.plane.Dispatch.View(func(c dispatch.Core) {
		if state, ok := c.(*commands.State); ok {
			f(state)
		}
	})
}

// keepImages copies the images that machines run, are to boot or would go back to into the boot service's own directory.
func (s *server) keepImages(service *netboot.Service) error {
	var list []bootimage.Manifest
	s.viewState(func(state *commands.State) {
		used := map[string]bool{state.ImageOf(commands.Machine{}): true}
		for _, m := range state.Machines() {
			used[m.Image], used[state.ImageOf(m)], used[m.ImageBefore] = true, true, true
		}
		for _, v := range state.Bootimages() {
			if b, ok := state.Bootimage(v); ok && used[v] {
				list = append(list, b.Data.Manifest)
			}
		}
	})
	return service.KeepImages(list)
}

// registerImages makes the versions in the image directory known, and looks after the copies of those that are booted, until ctx ends. It
// changes nothing of what machines boot. A version that someone has removed since stays removed: the command has the same id again.
func (s *server) registerImages(ctx context.Context, service *netboot.Service, log *slog.Logger) error {
	told, last := map[string]bool{}, ""
	for tick := time.NewTicker(lookForImages); ; {
		text := ""
		if err := errors.Join(s.registerNew(ctx, service, told), s.keepImages(service)); err != nil {
			text = err.Error()
		}
		if text != last && text != "" {
			log.Warn("boot images are not as they should be; machines that are to boot them wait", "error", text)
		}
		last = text
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
	}
}

func (s *server) registerNew(ctx context.Context, service *netboot.Service, told map[string]bool) error {
	found, err := service.Images()
	if err != nil {
		return err
	}
	var failed []error
	for dir, m := range found {
		known := false
		s.viewState(func(state *commands.State) { _, known = state.Bootimage(m.Version) })
		if known || told[m.Version] {
			continue
		}
		whole, err := bootimage.Verify(dir)
		if err != nil {
			told[m.Version] = true // say so once
			failed = append(failed, err)
			continue
		}
		answer, err := s.submitOwn(ctx, events.KindBootimage, "register", whole.Version, commands.RegisterBootimage{Manifest: whole})
		switch {
		case errors.Is(err, api.ErrNobodyDecides):
			return nil // the next look comes soon
		case err != nil:
			failed = append(failed, err)
		default:
			told[m.Version] = true
			s.log.Info("boot image found", "part", "netboot", "version", m.Version, "directory", dir, "outcome", answer.Outcome.Status, "message", answer.Outcome.Message)
		}
	}
	return errors.Join(failed...)
}

// heldMachines are the discovered ones: they are given an address, and a boot that only waits.
func heldMachines(state *commands.State) []netboot.Machine {
	var out []netboot.Machine
	for _, d := range state.Discovered() {
		out = append(out, netboot.Machine{ID: d.ID, Name: "held-" + d.ID, MACs: []string{d.Data.MAC}, Image: state.ImageOf(commands.Machine{}), Holding: true})
	}
	return out
}
