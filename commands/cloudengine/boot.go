package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"cloudengine/bootimage/netboot"
	"cloudengine/commands"
	"cloudengine/commands/api"
	"cloudengine/events"

	"github.com/spf13/pflag"
)

// netbootOptions say what machines boot and where they find it.
type netbootOptions struct {
	network   string // interface
	image     string
	url       string
	bus       []string
	anySource bool
	xenArgs   string
	dom0Args  string
	linuxArgs string
}

func (o *netbootOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.network, "netboot-interface", "", "serve DHCP and TFTP to machines on this network interface")
	fs.StringVar(&o.image, "image", "", "directory of the boot image; switches the boot service on HTTP on")
	fs.StringVar(&o.url, "netboot-url", "", "how machines reach --http (default: as it listens)")
	fs.StringSliceVar(&o.bus, "netboot-bus", nil, "how machines reach the buses of all servers (default: as this one listens)")
	fs.BoolVar(&o.anySource, "netboot-any-source", false, "serve boot files to any address; for tests, and behind a proxy")
	fs.StringVar(&o.xenArgs, "netboot-xen-args", "", "command line of the hypervisor instead of the default")
	fs.StringVar(&o.linuxArgs, "netboot-linux-args", "", "command line of the kernel of machines that run no domains, instead of the default")
	fs.StringVar(&o.dom0Args, "netboot-dom0-args", "", "command line of the control domain instead of the default")
}

func (o netbootOptions) on() bool { return o.network != "" || o.image != "" }

// startNetboot mounts the boot service, and keeps it up with the machines that the log knows.
func (s *server) startNetboot(address string, mux *http.ServeMux) error {
	o := s.opts.netboot
	if !o.on() {
		return nil
	}
	if o.url == "" {
		o.url = "http://" + address
	}
	if len(o.bus) == 0 {
		o.bus = []string{s.plane.Bus.ClientURL()}
	}
	log := s.log.With("part", "netboot")
	unknown := s.newDiscoveries()
	service, err := netboot.New(netboot.Options{
		DataDir: s.path("netboot"), Interface: o.network, HTTP: o.url, Bus: o.bus, ImageDir: o.image, BlobDir: s.path("blobs"),
		CA: string(s.trust), XenArgs: o.xenArgs, Dom0Args: o.dom0Args, LinuxArgs: o.linuxArgs, AnySource: o.anySource, Log: log, OnServed: s.reportServed,
		OnDiscovered: unknown.take,
	})
	if err != nil {
		return err
	}
	mux.Handle("/", service.Handler())
	s.parts.run("netboot", service.Run)
	s.parts.run("discovered machines", unknown.run)
	s.parts.run("boot images", func(ctx context.Context) error { return s.registerImages(ctx, service, log) })
	s.parts.run("netboot machines", func(ctx context.Context) error {
		return s.followMachines(ctx, func(list []netboot.Machine) {
			if err := service.SetMachines(list); err != nil {
				log.Error("the boot service keeps the machines that it had", "error", err)
			}
			if err := s.keepImages(service); err != nil {
				log.Debug("boot images are not all here yet", "error", err)
			}
		})
	})
	return nil
}

// reportServed tells the log that a machine was given its boot files. An error means: ask again.
func (s *server) reportServed(ctx context.Context, b netboot.BootServed) error {
	args, err := json.Marshal(commands.BootServed{Machine: events.MachineID(b.Machine), TokenSHA256: b.TokenSHA256, MAC: b.MAC, Image: b.Image})
	if err != nil {
		return fmt.Errorf("encode report of boot: %w", err)
	}
	answer, err := s.own.Submit(ctx, commands.Command{
		Intent: events.FreeFormID(commands.ActorNetboot, b.TokenSHA256), Actor: commands.ActorNetboot,
		Kind: events.KindMachine, Verb: "report_boot_served", Args: args,
	})
	switch {
	case errors.Is(err, api.ErrNobodyDecides):
		return err
	case err != nil:
		return fmt.Errorf("report boot of %s: %w", b.Machine, err)
	case answer.Outcome.Status == events.Refused:
		s.log.Warn("a served boot was refused", "machine", b.Machine, "code", answer.Outcome.Code, "message", answer.Outcome.Message)
	}
	return nil
}

// followMachines gives the machines that the log knows now, and again after each change of them, until ctx ends.
func (s *server) followMachines(ctx context.Context, set func([]netboot.Machine)) error {
	for {
		set(s.machines())
		select {
		case <-ctx.Done():
			return nil
		case <-s.machinesChanged:
		}
	}
}

// noteMachines hears of decisions, and wakes followMachines.
func (s *server) noteMachines(list []events.Recorded) {
	for _, d := range list {
		for _, e := range d.Events {
			switch e.Data.(type) {
			case events.MachineAdded, events.MachineRemoved, events.MachineEnrolled, events.MachineImageWanted, events.BootimageRegistered,
				events.BootimageRemoved, events.BootimageDefaultSet, events.DiscoveredFound, events.DiscoveredDropped, events.DiscoveredAdded:
				select {
				case s.machinesChanged <- struct{}{}:
				default:
				}
			}
		}
	}
}

// machines gives the known machines in the order in which they were added.
func (s *server) machines() []netboot.Machine {
	var out []netboot.Machine
	s.viewState(func(state *commands.State) {
		for _, m := range state.Machines() {
			out = append(out, netboot.Machine{ID: string(m.ID), Name: m.Name, MACs: m.Data.MACs, Roles: m.Data.Roles, Image: state.ImageOf(m)})
		}
		out = append(out, heldMachines(state)...)
	})
	slices.SortFunc(out, func(a, b netboot.Machine) int { return strings.Compare(a.ID, b.ID) })
	return out
}
