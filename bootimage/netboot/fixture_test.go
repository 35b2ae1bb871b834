package netboot

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cloudengine/bootimage"
)

const (
	macOne     = "52:54:00:77:00:01"
	macTwo     = "52:54:00:77:00:02"
	macUnknown = "52:54:00:77:00:99"
)

var (
	testNetwork = netip.MustParsePrefix("10.77.0.0/24")
	testServer  = netip.MustParseAddr("10.77.0.1")
	addrOne     = netip.MustParseAddr("10.77.0.11")
	addrTwo     = netip.MustParseAddr("10.77.0.12")
)

func twoMachines() []Machine {
	return []Machine{
		{ID: "id-1", Name: "host1", MACs: []string{macOne}, Roles: []string{"host"}},
		{ID: "id-2", Name: "host2", MACs: []string{macTwo}, Roles: []string{"host"}},
	}
}

// newService makes a service with two machines and one image; change may alter the options.
func newService(t testing.TB, change func(*Options)) *Service {
	t.Helper()
	opt := Options{
		DataDir: filepath.Join(t.TempDir(), "netboot"), ServerAddress: testServer, Network: testNetwork,
		HTTP: "http://10.77.0.1:8080", Bus: []string{"nats://10.77.0.1:4222"},
		ImageDir: mustImage(t, t.TempDir(), "one"), BlobDir: t.TempDir(),
	}
	if change != nil {
		change(&opt)
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetMachines(twoMachines()); err != nil {
		t.Fatal(err)
	}
	return s
}

// mustImage writes a small image into dir and returns dir.
func mustImage(t testing.TB, dir, content string) string {
	t.Helper()
	m := bootimage.Manifest{}
	for _, name := range []string{bootimage.XenFile, bootimage.KernelFile, bootimage.InitrdFile} {
		body := []byte(name + " of " + content)
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
		m.Parts = append(m.Parts, bootimage.Part{Name: name, Size: int64(len(body)), SHA256: content})
	}
	if err := m.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, bootimage.ManifestFile), mustJSON(t, m), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustVersion(t testing.TB, dir string) string {
	t.Helper()
	m, err := bootimage.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m.Version
}

// running runs f until the test ends, and fails the test if f does.
func running(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("it does not end")
		}
	})
}
