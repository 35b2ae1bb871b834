package main

import (
	"errors"
	"reflect"
	"testing"

	"cloudengine/workers/host"
	"cloudengine/workers/network"
	"cloudengine/workers/workertest"
)

// sockets is a host whose networks are only counted.
type sockets struct {
	plugged []network.Vif
	err     error
}

func (s *sockets) MTU(int) (int, error) { return 1450, nil }
func (s *sockets) Plug(v network.Vif, mtu int) error {
	if s.err == nil && mtu == 1450 {
		s.plugged = append(s.plugged, v)
	}
	return s.err
}

// TestHotplugPlugsWhatXenstoreSays: libxl is told that a vif is connected when its rules are there, not before.
func TestHotplugPlugsWhatXenstoreSays(t *testing.T) {
	const dir = "/local/domain/0/backend/vif/5/1"
	h, s := workertest.NewHost(64), &sockets{err: errHotplug}
	for node, value := range map[string]string{"mac": "00:16:3e:00:00:01", "bridge": "ce-4096", "ip": "10.0.0.2 fd00::2"} {
		must(t, h.Write(t.Context(), dir+"/"+node, value))
	}
	if err := plugVif(t.Context(), h, s, dir); !errors.Is(err, errHotplug) {
		t.Fatalf("when it cannot be plugged: %v", err)
	}
	if v, err := h.Read(t.Context(), dir+"/hotplug-status"); !errors.Is(err, host.ErrNoNode) {
		t.Errorf("hotplug-status is %q, %v", v, err)
	}
	s.err = nil
	must(t, plugVif(t.Context(), h, s, dir))
	want := []network.Vif{{Device: "vif5.1", VNI: 4096, MAC: "00:16:3e:00:00:01", Addresses: []string{"10.0.0.2", "fd00::2"}}}
	if !reflect.DeepEqual(s.plugged, want) {
		t.Errorf("plugged %+v, want %+v", s.plugged, want)
	}
	for node, want := range map[string]string{dir + "/hotplug-status": "connected", "/local/domain/5/device/vif/1/mtu": "1450"} {
		if v, err := h.Read(t.Context(), node); err != nil || v != want {
			t.Errorf("%s is %q, %v; want %q", node, v, err, want)
		}
	}
	all, err := vifs(t.Context(), h)
	if err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("vifs of all domains: %+v, %v", all, err)
	}
	must(t, h.Write(t.Context(), dir+"/bridge", "xenbr0"))
	if err := plugVif(t.Context(), h, s, dir); !errors.Is(err, errNotNetwork) {
		t.Errorf("on another's bridge: %v", err)
	}
	if all, err := vifs(t.Context(), h); err != nil || len(all) != 0 {
		t.Errorf("vifs of all domains: %+v, %v", all, err)
	}
}
