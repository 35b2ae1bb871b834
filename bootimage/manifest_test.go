package bootimage_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudengine/bootimage"
)

func TestReadManifest(t *testing.T) {
	dir := t.TempDir()
	m := bootimage.Manifest{Kernel: "6.1", Packages: []bootimage.Package{{Name: "xl", Version: "1", SHA256: "ab"}},
		Parts: []bootimage.Part{{Name: bootimage.XenFile, Size: 3, SHA256: "cd"}}}
	if err := m.Seal(); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(bootimage.ManifestFile, string(body))
	if _, err := bootimage.ReadManifest(dir); err == nil {
		t.Error("an image without its part was taken")
	}
	write(bootimage.XenFile, "xen")
	got, err := bootimage.ReadManifest(dir)
	if err != nil || got.Version != m.Version || got.Size() != 3 {
		t.Errorf("read %+v, %v", got, err)
	}
	write(bootimage.XenFile, "xenxen")
	if _, err := bootimage.ReadManifest(dir); err == nil {
		t.Error("a part of another size was taken")
	}
	write(bootimage.XenFile, "xen")
	write(bootimage.ManifestFile, strings.Replace(string(body), `"6.1"`, `"6.2"`, 1))
	if _, err := bootimage.ReadManifest(dir); err == nil {
		t.Error("a manifest that was changed was taken")
	}
}
