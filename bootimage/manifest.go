package bootimage

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"cloudengine/events"
)

// Names of the files in an image's directory.
const (
	XenFile      = "xen"           // hypervisor, uncompressed ELF, loadable by iPXE's and QEMU's multiboot
	KernelFile   = "vmlinuz"       // kernel of the control domain, bzImage
	InitrdFile   = "initrd.img"    // initramfs: compressed newc archives, its size is a multiple of 4
	ManifestFile = "manifest.json" // Manifest
	// CurrentLink, beside the images' directories, is a symbolic link to the newest image.
	CurrentLink = "current"
)

// Manifest says what an image was made of. It is what the log keeps of an image too.
type (
	Manifest = events.BootManifest
	Package  = events.BootPackage
	Tool     = events.BootTool
	Part     = events.BootPart
	Content  = events.BootContent
)

// ReadManifest reads the manifest of the image in dir, refuses one whose version does not fit its content, and one
// whose parts are missing or have another size. It does not read the parts.
func ReadManifest(dir string) (Manifest, error) {
	var m Manifest
	body, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return Manifest{}, fmt.Errorf("read boot image manifest: %w", err)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return Manifest{}, fmt.Errorf("decode boot image manifest in %s: %w", dir, err)
	}
	want := m.Version
	if err := m.Seal(); err != nil {
		return Manifest{}, err
	}
	if m.Version != want {
		return Manifest{}, fmt.Errorf("check boot image manifest in %s: version is %s, its content says %s", dir, want, m.Version)
	}
	for _, p := range m.Parts {
		info, err := os.Stat(filepath.Join(dir, p.Name))
		if err != nil {
			return Manifest{}, fmt.Errorf("check boot image %s: %w", m.Version, err)
		}
		if info.Size() != p.Size {
			return Manifest{}, fmt.Errorf("check boot image %s: %s has %d bytes, not %d", m.Version, p.Name, info.Size(), p.Size)
		}
	}
	return m, nil
}
