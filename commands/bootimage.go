package commands

import (
	"encoding/hex"
	"strings"

	"cloudengine/events"
)

// Bootimage is a version of the boot image that machines may be told to boot.
type Bootimage struct {
	Version string
	Data    events.BootimageRegistered
}

// Bounds of what is kept of boot images.
const (
	maxBootimages   = 256
	maxManifestList = 1024 // packages, tools or contents of one
)

// RegisterBootimage makes a version of the boot image known. Its files were put before, or are in a server's image directory.
type RegisterBootimage struct {
	Name     string              `json:"name,omitempty"`
	Manifest events.BootManifest `json:"manifest"`
}

func (a RegisterBootimage) check() *Rejection {
	if a.Name != "" {
		if r := checkName("name", a.Name); r != nil {
			return r
		}
	}
	m := a.Manifest
	if r := checkVersion("manifest.version", m.Version); r != nil {
		return r
	}
	if r := checkManifestLists(m); r != nil {
		return r
	}
	if len(m.Parts) == 0 || len(m.Parts) > 16 {
		return invalid("field \"manifest.parts\": want 1 to 16 files")
	}
	for _, p := range m.Parts {
		if r := checkBlob("manifest.parts", events.Blob{SHA256: p.SHA256, Size: p.Size}); r != nil {
			return r
		}
		if !imageFileName(p.Name) {
			return invalid("field \"manifest.parts\": %q is not the name of a file", clip(p.Name))
		}
	}
	return nil
}

func checkManifestLists(m events.BootManifest) *Rejection {
	if m.Packages == nil || m.Tools == nil || len(m.Packages) > maxManifestList || len(m.Tools) > maxManifestList || len(m.Contents) > maxManifestList {
		return invalid("field \"manifest\": want packages and tools, and at most %d of each, and of contents", maxManifestList)
	}
	words := []string{m.Kernel}
	for _, p := range m.Packages {
		words = append(words, p.Name, p.Version)
		if r := checkBlob("manifest.packages", events.Blob{SHA256: p.SHA256, Size: 1}); r != nil {
			return r
		}
	}
	for _, t := range m.Tools {
		words = append(words, t.Name, t.Version)
	}
	for _, c := range m.Contents {
		words = append(words, c.Name)
		if c.Files < 1 || c.Files > 1<<20 || c.Size < 1 || c.Size > 1<<30 {
			return invalid("field \"manifest.contents\": want 1 to %d files and 1 to %d bytes of each", 1<<20, 1<<30)
		}
	}
	for _, w := range words {
		if w == "" || len(w) > 128 || strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r > '~' }) {
			return invalid("field \"manifest\": %q is no name or version: want 1 to 128 printable bytes", clip(w))
		}
	}
	return nil
}

// imageFileName keeps a part's name from leading out of a directory.
func imageFileName(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '.' {
		return false
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

func checkVersion(field, v string) *Rejection {
	raw, err := hex.DecodeString(v)
	if err != nil || len(raw) != 8 || hex.EncodeToString(raw) != v {
		return invalid("field %q: %q is not a version of a boot image: want 16 hexadecimal digits in lower case", field, clip(v))
	}
	return nil
}

// decideRegisterBootimage takes a version once: what has the same version is the same bytes.
func decideRegisterBootimage(d *decision, a RegisterBootimage) error {
	v, sealed := a.Manifest.Version, a.Manifest
	if err := sealed.Seal(); err != nil || sealed.Version != v {
		return reject(events.CodeConflict, "the manifest says that it is version %s, and its content says %s: it was changed", v, sealed.Version)
	}
	if _, known := d.s.images[v]; known {
		return nil
	}
	if len(d.s.images) >= maxBootimages {
		return reject(events.CodeConflict, "%d boot images are registered: remove old ones first (bootimage rm)", len(d.s.images))
	}
	if a.Name != "" {
		if err := d.freeName(events.KindBootimage, "", a.Name); err != nil {
			return err
		}
	}
	d.add(events.KindBootimage, v, events.BootimageRegistered(a))
	return nil
}

// BootimageRef names a boot image by its version.
type BootimageRef struct {
	Bootimage string `json:"bootimage"`
}

func (a BootimageRef) check() *Rejection { return checkVersion("bootimage", a.Bootimage) }

func (d *decision) bootimage(version string) (*Bootimage, error) {
	b, ok := d.s.images[version]
	if !ok {
		return nil, reject(events.CodeNotFound, "there is no boot image %s: register it first (bootimage add)", version)
	}
	return b, nil
}

// expectImage refuses when the version is not called any more what the client saw: its name, or the version itself if it has none.
func (d *decision) expectImage(b *Bootimage) error {
	name := b.Data.Name
	if name == "" {
		name = b.Version
	}
	return d.expect(events.KindBootimage, name)
}

// decideRemoveBootimage refuses while a machine runs it, is to boot it, or would go back to it.
func decideRemoveBootimage(d *decision, a BootimageRef) error {
	b, err := d.bootimage(a.Bootimage)
	if err != nil {
		return err
	}
	if err := d.expectImage(b); err != nil {
		return err
	}
	if d.s.defaultImage == b.Version {
		return reject(events.CodeConflict, "boot image %s is the default: set another one first", b.Version)
	}
	for _, m := range d.s.Machines() {
		switch b.Version {
		case m.WantedImage:
			return reject(events.CodeConflict, "machine %q is to boot image %s", m.Name, b.Version)
		case m.Image:
			return reject(events.CodeConflict, "machine %q runs image %s", m.Name, b.Version)
		case m.ImageBefore:
			return reject(events.CodeConflict, "machine %q would be rolled back to image %s", m.Name, b.Version)
		}
	}
	d.add(events.KindBootimage, b.Version, events.BootimageRemoved{})
	return nil
}

// decideSetDefaultBootimage changes what machines boot that have no image of their own. It reboots nothing.
func decideSetDefaultBootimage(d *decision, a BootimageRef) error {
	b, err := d.bootimage(a.Bootimage)
	if err != nil {
		return err
	}
	if err := d.expectImage(b); err != nil || d.s.defaultImage == b.Version {
		return err
	}
	d.add(events.KindBootimage, b.Version, events.BootimageDefaultSet{Before: d.s.defaultImage})
	return nil
}

// SetMachineImage says which image a machine is given at its next boot.
type SetMachineImage struct {
	Machine events.MachineID `json:"machine"`
	Image   string           `json:"image,omitempty"` // version; empty: the default
}

func (a SetMachineImage) check() *Rejection {
	if a.Image != "" {
		if r := checkVersion("image", a.Image); r != nil {
			return r
		}
	}
	return checkID("machine", string(a.Machine))
}

// decideSetMachineImage changes what the machine is served when it boots the next time. It reboots nothing, so it needs no guard.
func decideSetMachineImage(d *decision, a SetMachineImage) error {
	m, err := d.machine(a.Machine)
	if err != nil || m.WantedImage == a.Image {
		return err
	}
	if a.Image != "" {
		if _, err := d.bootimage(a.Image); err != nil {
			return err
		}
	}
	next, before := a.Image, m.Image
	if next == "" {
		next = d.s.defaultImage
	}
	if before == "" || before == next { // it never ran, or is set back to what it runs: so the other one is what a roll back means
		before = d.s.ImageOf(*m)
	}
	if before == next || d.s.images[before] == nil {
		before = m.ImageBefore
	}
	d.add(events.KindMachine, string(m.ID), events.MachineImageWanted{Image: a.Image, Before: before})
	return nil
}

// ImageOf is the version that a machine is to be given at its next boot; empty: what the server's image directory has as the current one.
func (s *State) ImageOf(m Machine) string {
	if m.WantedImage != "" {
		return m.WantedImage
	}
	return s.defaultImage
}

// Bootimage finds a registered boot image by its version.
func (s *State) Bootimage(version string) (Bootimage, bool) {
	b, ok := s.images[version]
	if !ok {
		return Bootimage{}, false
	}
	return *b, true
}

// Bootimages lists the versions of all registered boot images, sorted.
func (s *State) Bootimages() []string { return sortedKeys(s.images) }

func (s *State) foldBootimage(e events.Event) {
	switch data := e.Data.(type) {
	case events.BootimageRegistered:
		s.images[e.Aggregate.ID] = &Bootimage{Version: e.Aggregate.ID, Data: data}
		if data.Name != "" {
			s.names[scope(events.KindBootimage, "", data.Name)] = e.Aggregate.ID
		}
	case events.BootimageRemoved:
		if b, ok := s.images[e.Aggregate.ID]; ok && b.Data.Name != "" {
			delete(s.names, scope(events.KindBootimage, "", b.Data.Name))
		}
		delete(s.images, e.Aggregate.ID)
	case events.BootimageDefaultSet:
		s.defaultImage = e.Aggregate.ID
	}
}

// otherImage says what is wrong when a boot says that it runs another image than the one that it was served; empty: nothing.
func (m *Machine) otherImage(a Enrolment) string {
	served, known := m.tokenImages[a.TokenSHA256]
	if !known || served == "" || served == a.Image {
		return ""
	}
	return "machine " + m.Name + " says that it runs boot image " + clip(a.Image) + ", and was served " + served
}
