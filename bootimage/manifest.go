package bootimage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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

// Manifest says what an image was made of. Version is derived from all the rest: two images with the same version are
// the same bytes.
type Manifest struct {
	Version  string    `json:"version"` // 16 hexadecimal digits, see Seal
	Kernel   string    `json:"kernel"`  // release of the control domain's kernel, as uname -r prints it
	Packages []Package `json:"packages"`
	Tools    []Tool    `json:"tools"`
	Parts    []Part    `json:"parts"`
}

// Package is a Debian package from which at least one file is in the image.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the .deb
}

// Tool is something other than a Debian package that went into the image: the Go toolchain, u-root.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Part is one file of the image.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Seal sets the version: the first 16 hexadecimal digits of the SHA-256 of the manifest's JSON with an empty version.
func (m *Manifest) Seal() error {
	m.Version = ""
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("seal manifest: %w", err)
	}
	sum := sha256.Sum256(body)
	m.Version = hex.EncodeToString(sum[:8])
	return nil
}

// Size returns the bytes of all parts together.
func (m *Manifest) Size() int64 {
	var n int64
	for _, p := range m.Parts {
		n += p.Size
	}
	return n
}

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
