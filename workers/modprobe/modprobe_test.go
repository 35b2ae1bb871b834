package modprobe

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLists(t *testing.T) {
	m := Modules{
		files: parseDep("kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko\nkernel/x/xen-blkback.ko:\n\n"),
		aliases: parseAliases("# comment\nalias virtio:d00000001v* virtio_net\nalias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000\n" +
			"alias pci:[ broken\nother line here\n"),
	}
	want := []string{"kernel/net/bridge/bridge.ko", "kernel/net/802/stp.ko", "kernel/net/llc/llc.ko"}
	if !reflect.DeepEqual(m.files["bridge"], want) {
		t.Errorf("bridge needs %v", m.files["bridge"])
	}
	if len(m.files["xen_blkback"]) != 1 || len(m.files) != 2 {
		t.Errorf("files %v", m.files)
	}
	for device, want := range map[string]string{
		"virtio:d00000001v00001AF4":                             "virtio_net",
		"virtio:d00000002v00001AF4":                             "",
		"pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00": "e1000",
	} {
		if got := strings.Join(m.match(device), " "); got != want {
			t.Errorf("%s is served by %q, want %q", device, got, want)
		}
	}
}

// image makes a root with modules; the kernel of the test notes what it is given and marks it as live.
func image(t *testing.T, files map[string]string) (*Modules, *[]string) {
	t.Helper()
	root := t.TempDir()
	lists := map[string]string{
		"lib/modules/6/modules.dep": "k/rdma_rxe.ko: k/udp-tunnel.ko k/ib_core.ko\nk/udp-tunnel.ko:\nk/ib_core.ko:\nk/virtio_pci.ko:\nk/virtio_net.ko:\n" +
			"k/broken.ko:\n",
		"lib/modules/6/modules.alias":   "alias pci:v1* virtio_pci\nalias virtio:d1* virtio_net\nalias pci:v2* broken\nalias pci:v3* absent\n",
		"lib/modules/6/modules.builtin": "kernel/crypto/crc32c_generic.ko\n",
	}
	for name, body := range files {
		lists[name] = body
	}
	for name, body := range lists {
		write(t, filepath.Join(root, name), body)
	}
	var given []string
	m, err := open(root, "6", func(file, params string) error {
		given = append(given, strings.TrimSpace(filepath.Base(file)+" "+params))
		name := moduleName(file)
		if name == "broken" {
			return errors.New("exec format error")
		}
		write(t, filepath.Join(root, "sys/module", name, "initstate"), "live\n")
		if name == "virtio_pci" { // the transport makes its devices appear
			write(t, filepath.Join(root, "sys/bus/virtio/devices/virtio0/modalias"), "virtio:d1v2\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, &given
}

func write(t *testing.T, file, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	m, given := image(t, map[string]string{"sys/module/virtio_net/parameters": "", "sys/module/ib_core/initstate": "coming\n"})
	for _, name := range []string{"crc32c-generic", "virtio_net", "rdma-rxe", "rdma_rxe", "udp_tunnel"} {
		params := []string{"a=1", "b=2"}
		if err := m.Load(name, params...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if want := []string{"ib_core.ko", "udp-tunnel.ko", "rdma_rxe.ko a=1 b=2"}; !reflect.DeepEqual(*given, want) {
		t.Errorf("the kernel was given %q, want %q", *given, want)
	}
	for _, name := range []string{"none", "broken"} {
		if err := m.Load(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestColdplug(t *testing.T) {
	m, given := image(t, map[string]string{
		"sys/bus/pci/devices/0000:00:01.0/modalias": "pci:v1d1\n", "sys/bus/pci/devices/0000:00:02.0/modalias": "pci:v2d1\n",
		"sys/bus/pci/devices/0000:00:03.0/modalias": "pci:v3d1\n", "sys/bus/pci/devices/0000:00:04.0/modalias": "pci:v1d2\n",
	})
	var out bytes.Buffer
	if err := m.Coldplug(slog.New(slog.NewTextHandler(&out, nil))); err != nil {
		t.Fatal(err)
	}
	if want := []string{"virtio_pci.ko", "broken.ko", "virtio_net.ko"}; !reflect.DeepEqual(*given, want) {
		t.Errorf("the kernel was given %q, want %q", *given, want)
	}
	if n := strings.Count(out.String(), "driver not loaded"); n != 2 {
		t.Errorf("%d drivers were complained about, want those that are broken and absent:\n%s", n, out.String())
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	if _, err := open(t.TempDir(), "6", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no lists: %v", err)
	}
}
