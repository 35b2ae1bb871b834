package workertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/host"
)

const (
	loopMajor = 7
	seedDir   = "/run/seeds/"
)

var errSeedInUse = errors.New("a domain of its VM has it")

func seedOfPath(path string) (name string, ok bool) { return strings.CutPrefix(path, seedDir) }

// Seeds are the seeds of a model.
type Seeds struct{ h *Host }

var _ host.Seeds = Seeds{}

// Seeds gives what the model has of seeds.
func (h *Host) Seeds() Seeds { return Seeds{h} }

// Have lists them.
func (s Seeds) Have(context.Context) ([]host.SeedDisk, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.h.killed {
		return nil, ErrKilled
	}
	var out []host.SeedDisk
	for name, minor := range s.h.m.Seeds {
		d := host.SeedDisk{Name: name}
		if minor > 0 {
			d.Device = fmt.Sprintf("%d:%d", loopMajor, minor)
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b host.SeedDisk) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Make makes one, if it does not stand.
func (s Seeds) Make(_ context.Context, vm events.VMID, seed desired.Seed) (string, error) {
	h, name := s.h, host.SeedName(vm, seed)
	half := func() {
		if h.m.Seeds[name] == 0 {
			h.m.Seeds[name] = 0
		}
	}
	return seedDir + name, h.change("seed "+name, func() error {
		if h.m.Seeds[name] == 0 {
			h.m.Minors++
			h.m.Seeds[name] = h.m.Minors
		}
		return nil
	}, half)
}

// Remove takes one away. Unlike real ones it refuses one that a domain has: no plan should ask for that.
func (s Seeds) Remove(_ context.Context, name string) error {
	h := s.h
	return h.change("unseed "+name, func() error {
		for _, g := range h.m.Guests {
			if !g.Half && slices.ContainsFunc(g.Config.Disks, func(d host.Disk) bool { return d.Path == seedDir+name }) {
				return fmt.Errorf("unseed %s: %w", name, errSeedInUse)
			}
		}
		delete(h.m.Seeds, name)
		return nil
	}, func() {
		if _, there := h.m.Seeds[name]; there {
			h.m.Seeds[name] = 0
		}
	})
}

// Steal gives the device of a seed another number behind the agent's back.
func (s Seeds) Steal(name string) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.m.Minors++
	s.h.m.Seeds[name] = s.h.m.Minors
}
