package events

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// BootManifest says what a boot image was made of. Version is derived from all the rest: two images with the same version are the same
// bytes. Its JSON is that of an image's manifest.json, so the order and the names of its fields are permanent.
type BootManifest struct {
	Version  string        `json:"version"` // 16 hexadecimal digits, see Seal
	Kernel   string        `json:"kernel"`  // release of the control domain's kernel, as uname -r prints it
	Packages []BootPackage `json:"packages"`
	Tools    []BootTool    `json:"tools"`
	Parts    []BootPart    `json:"parts"`
	Contents []BootContent `json:"contents,omitempty"` // what fills the initramfs, largest first
}

// BootPackage is a Debian package from which at least one file is in the image.
type BootPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the .deb
}

// BootTool is something other than a Debian package that went into the image: the Go toolchain, u-root.
type BootTool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// BootPart is one file of the image.
type BootPart struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// BootContent is what one source contributes to the initramfs, before it is packed.
type BootContent struct {
	Name  string `json:"name"`  // a Debian package, or a word for our own: noded, userland, modules
	Files int    `json:"files"` // how many
	Size  int64  `json:"size"`  // bytes, unpacked
}

// Seal sets the version: the first 16 hexadecimal digits of the SHA-256 of the manifest's JSON with an empty version.
func (m *BootManifest) Seal() error {
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
func (m *BootManifest) Size() int64 {
	var n int64
	for _, p := range m.Parts {
		n += p.Size
	}
	return n
}

// BootimageRegistered makes a version of the boot image known, so that machines can be told to boot it. The aggregate's id is the version.
type BootimageRegistered struct {
	Name     string       `json:"name,omitempty"` // what people call it
	Manifest BootManifest `json:"manifest"`
}

// EventType gives the wire name.
func (BootimageRegistered) EventType() string { return "bootimage.registered.v1" }

// BootimageRemoved makes a version unknown again.
type BootimageRemoved struct{}

// EventType gives the wire name.
func (BootimageRemoved) EventType() string { return "bootimage.removed.v1" }

// BootimageDefaultSet makes this version the one that machines boot which have none of their own.
type BootimageDefaultSet struct {
	Before string `json:"before,omitempty"` // version that was the default; empty: none
}

// EventType gives the wire name.
func (BootimageDefaultSet) EventType() string { return "bootimage.default_set.v1" }

// MachineImageWanted says which image a machine is to be given at its next boot. It reboots nothing.
type MachineImageWanted struct {
	Image  string `json:"image,omitempty"`  // version; empty: the default
	Before string `json:"before,omitempty"` // version that it goes back to by a roll back: the one that it ran, or was to run; empty: not known
}

// EventType gives the wire name.
func (MachineImageWanted) EventType() string { return "machine.image_wanted.v1" }

// DiscoveredFound says that a machine which nobody made known asked our netboot server for a boot. All but the MAC is its own word.
type DiscoveredFound struct {
	MAC          string `json:"mac"`             // lower case with colons; the aggregate's id is its 12 digits
	Class        string `json:"class,omitempty"` // DHCP vendor class
	Serial       string `json:"serial,omitempty"`
	UUID         string `json:"uuid,omitempty"` // SMBIOS
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
}

// EventType gives the wire name.
func (DiscoveredFound) EventType() string { return "discovered.found.v1" }

// DiscoveredDropped says that a discovered machine is of no interest: it gets no boot and is not recorded again.
type DiscoveredDropped struct{}

// EventType gives the wire name.
func (DiscoveredDropped) EventType() string { return "discovered.dropped.v1" }

// DiscoveredAdded says that a discovered machine was made known.
type DiscoveredAdded struct {
	Machine MachineID `json:"machine"`
}

// EventType gives the wire name.
func (DiscoveredAdded) EventType() string { return "discovered.added.v1" }
