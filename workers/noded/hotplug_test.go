package main

import (
	"errors"
	"path/filepath"
	"testing"

	"cloudengine/events/desired"
	"cloudengine/workers/host"
	"cloudengine/workers/seed"
	"cloudengine/workers/workertest"
)

// oneLoop is a machine with one loop device, number 3.
type oneLoop struct{ file string }

func (l *oneLoop) List() ([]seed.Loop, error) {
	if l.file == "" {
		return nil, nil
	}
	return []seed.Loop{{Number: 3, Major: 7, Minor: 3, File: l.file, ReadOnly: true}}, nil
}
func (l *oneLoop) Attach(path string) error { l.file = path; return nil }
func (l *oneLoop) Detach(int) error         { l.file = ""; return nil }

// TestHotplugGivesADomainItsOwnSeed, read-only, and no other's.
func TestHotplugGivesADomainItsOwnSeed(t *testing.T) {
	const vm, other = "0190bbbb-0000-7000-8000-0000000000b1", "0190bbbb-0000-7000-8000-0000000000b2"
	h := workertest.NewHost(64)
	seeds := &seed.Dir{Path: filepath.Join(t.TempDir(), "seeds"), Loops: &oneLoop{}}
	file, err := seeds.Make(t.Context(), vm, desired.Seed{Hostname: "web"})
	must(t, err)
	const dir = "/local/domain/0/backend/vbd/5/51712"
	must(t, h.Write(t.Context(), dir+"/params", file))
	plugAs := func(uuid, mode string) error {
		must(t, h.Write(t.Context(), "/local/domain/5/vm", "/vm/"+uuid))
		must(t, h.Write(t.Context(), dir+"/mode", mode))
		return plugDisk(t.Context(), h, seeds, dir)
	}
	if err := plugAs(other, "r"); err == nil {
		t.Error("another VM's domain was given it")
	}
	if err := plugAs(vm, "w"); !errors.Is(err, errWritable) {
		t.Errorf("writable: %v", err)
	}
	if v, err := h.Read(t.Context(), dir+"/hotplug-status"); !errors.Is(err, host.ErrNoNode) {
		t.Errorf("hotplug-status is %q, %v", v, err)
	}
	must(t, plugAs(vm, "r"))
	for node, want := range map[string]string{"physical-device": "7:3", "physical-device-path": "/dev/loop3", "hotplug-status": "connected"} {
		if v, err := h.Read(t.Context(), dir+"/"+node); err != nil || v != want {
			t.Errorf("%s is %q, %v; want %q", node, v, err, want)
		}
	}
	must(t, seeds.Remove(t.Context(), host.SeedName(vm, desired.Seed{Hostname: "web"})))
	if err := plugAs(vm, "r"); err == nil {
		t.Error("a seed that is gone was given")
	}
}
