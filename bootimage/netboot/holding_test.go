package netboot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/bootimage"
)

// TestHeldMachine: it says what it is, boots the same image without a token, and is told when it may boot as what it is.
func TestHeldMachine(t *testing.T) {
	var told []Discovered
	s := newService(t, func(o *Options) { o.OnDiscovered = func(d Discovered) { told = append(told, d) } })
	if got := body(t, get(s, "10.77.0.99", "GET", "/ipxe/"+macUnknown)); strings.Contains(got, "kernel") || len(told) != 1 {
		t.Errorf("a machine that nobody knows and nobody holds boots, or nobody was told (%v):\n%s", told, got)
	}
	held := append(twoMachines(), Machine{ID: "525400770099", Name: "held-525400770099", MACs: []string{macUnknown}, Holding: true})
	if err := s.SetMachines(held); err != nil {
		t.Fatal(err)
	}
	addr, _ := s.Address(macUnknown)
	if got := body(t, get(s, addr.String(), "GET", "/ipxe/"+macUnknown)); !strings.Contains(got, "said=1&serial=${serial:uristring}") {
		t.Errorf("it is not asked what it is:\n%s", got)
	}
	for i, from := range []string{"10.77.0.11", addr.String()} { // first another's word, which is not taken
		want := 1 + i
		got := body(t, get(s, from, "GET", "/ipxe/"+macUnknown+"?said=1&serial=X1%0a%00&product="+strings.Repeat("R", 100)))
		if !strings.Contains(got, "kernel http") || len(told) != want {
			t.Errorf("from %s: told %v, script:\n%s", from, told, got)
		}
	}
	if last := told[len(told)-1]; len(told) != 2 || last.Serial != "X1" || len(last.Product) != 64 {
		t.Errorf("told of %+v", told)
	}
	raw := body(t, get(s, addr.String(), "GET", "/boot/"+macUnknown+"/initrd.img"))
	if !strings.Contains(raw, `"holding":"`+macUnknown+`"`) || !strings.Contains(raw, `"token":""`) || strings.Contains(raw, "nats://") {
		t.Errorf("its boot.json holds what it must not have: %q", raw[strings.Index(raw, "{"):])
	}
	if names, err := s.queue.list(); err != nil || len(names) != 0 {
		t.Errorf("a boot without token was reported: %v, %v", names, err)
	}
	for mac, want := range map[string]string{macUnknown: HoldOn, macOne: HoldBoot, "52:54:00:77:00:98": HoldNone} {
		if got := strings.TrimSpace(body(t, get(s, "10.77.0.11", "GET", "/hold/"+mac))); got != want {
			t.Errorf("%s is told %q, want %q", mac, got, want)
		}
	}
}

// TestHeldMachinesTakeNobodysAddress: they get what is left, and lose it when a known machine needs it.
func TestHeldMachinesTakeNobodysAddress(t *testing.T) {
	small := netip.MustParsePrefix("10.77.0.0/28")
	s := newService(t, func(o *Options) { o.Network, o.PoolFirst = small, addrOne }) // .11 to .14
	held := []Machine{
		{ID: "h1", Name: "h1", MACs: []string{"52:54:00:77:01:01"}, Holding: true}, {ID: "h2", Name: "h2", MACs: []string{"52:54:00:77:01:02"}, Holding: true},
		{ID: "h3", Name: "h3", MACs: []string{"52:54:00:77:01:03"}, Holding: true},
	}
	set := func(machines ...Machine) {
		t.Helper()
		if err := s.SetMachines(machines); err != nil {
			t.Fatal(err)
		}
	}
	at := func(mac string) string {
		a, ok := s.Address(mac)
		if !ok {
			return ""
		}
		return a.String()
	}
	set(append(twoMachines(), held...)...)
	if a, b, c := at("52:54:00:77:01:01"), at("52:54:00:77:01:02"), at("52:54:00:77:01:03"); a != "10.77.0.13" || b != "10.77.0.14" || c != "" {
		t.Errorf("held machines have %q, %q and %q", a, b, c)
	}
	third := Machine{ID: "id-3", Name: "host3", MACs: []string{"52:54:00:77:00:03"}}
	set(append(append(held[:2:2], twoMachines()...), third)...)
	if at(third.MACs[0]) == "" || at(macOne) != "10.77.0.11" {
		t.Errorf("a held machine keeps an address that host3 needs: host3 has %q, host1 %q", at(third.MACs[0]), at(macOne))
	}
	known := Machine{ID: "id-4", Name: "host4", MACs: held[1].MACs} // it was added: it keeps its address
	was := at(held[1].MACs[0])
	if set(append(twoMachines(), third, known)...); was == "" || at(held[1].MACs[0]) != was {
		t.Errorf("a machine that was added had %q and has %q", was, at(held[1].MACs[0]))
	}
}

// realImage writes an image whose digests are right.
func realImage(t testing.TB, dir, content string) bootimage.Manifest {
	t.Helper()
	m := bootimage.Manifest{}
	for _, name := range []string{bootimage.XenFile, bootimage.KernelFile, bootimage.InitrdFile} {
		body := []byte(name + " of " + content)
		sum := sha256.Sum256(body)
		m.Parts = append(m.Parts, bootimage.Part{Name: name, Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:])})
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, bootimage.ManifestFile), mustJSON(t, m), 0o644); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRegisteredImagesAreKept: from the image directory or from blobs, verified, also when the directory is cleared away later.
func TestRegisteredImagesAreKept(t *testing.T) {
	root := t.TempDir()
	s := newService(t, func(o *Options) { o.ImageDir = root })
	inDir := realImage(t, root, "dir")
	upload := t.TempDir()
	uploaded := realImage(t, upload, "upload")
	for i, p := range uploaded.Parts {
		raw, err := os.ReadFile(filepath.Join(upload, p.Name))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			raw[0] ^= 1 // the disk has lost a bit
		}
		if err := os.WriteFile(filepath.Join(s.opt.BlobDir, p.SHA256), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := s.Images(); err != nil || len(found) != 1 || found[root].Version != inDir.Version {
		t.Errorf("found %v, %v", found, err)
	}
	if err := s.KeepImages([]bootimage.Manifest{inDir, uploaded}); err == nil {
		t.Error("an image with a broken part was kept")
	}
	raw, err := os.ReadFile(filepath.Join(upload, uploaded.Parts[0].Name))
	if err == nil {
		err = os.WriteFile(filepath.Join(s.opt.BlobDir, uploaded.Parts[0].SHA256), raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.KeepImages([]bootimage.Manifest{inDir, uploaded}); err != nil {
		t.Fatal(err)
	}
	spoilt := filepath.Join(s.opt.DataDir, imagesDir, uploaded.Version, bootimage.XenFile)
	if err := os.WriteFile(spoilt, bytes.Repeat([]byte("x"), int(uploaded.Parts[0].Size)), 0o644); err != nil {
		t.Fatal(err)
	}
	s.opt.Now = func() time.Time { return time.Now().Add(checkKept) }
	if err := s.KeepImages([]bootimage.Manifest{inDir, uploaded}); err != nil {
		t.Fatal(err)
	}
	if _, err := bootimage.Verify(filepath.Dir(spoilt)); err != nil {
		t.Errorf("a copy that the disk has spoilt stays so: %v", err)
	}
	for _, p := range inDir.Parts {
		if err := os.Remove(filepath.Join(root, p.Name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []bootimage.Manifest{inDir, uploaded} {
		if r := get(s, "10.77.0.11", "GET", "/image/"+m.Version+"/xen"); r.StatusCode != 200 {
			t.Errorf("image %s: %s", m.Version, r.Status)
		}
	}
	var many []bootimage.Manifest
	for _, word := range []string{"a", "b", "c", "d", "e", "f"} {
		many = append(many, realImage(t, root, word))
		if err := s.KeepImages(many[len(many)-1:]); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadDir(filepath.Join(s.opt.DataDir, imagesDir)); err != nil || len(kept) != maxUnlisted+1 {
		t.Errorf("%d images are kept (%v), want the registered one and %d others", len(kept), err, maxUnlisted)
	}
}

// TestBootsFromWhatWasKept: after a restart without log, bus or database, and with an image directory that was cleared away, a machine
// still boots the version that it was to boot.
func TestBootsFromWhatWasKept(t *testing.T) {
	root := t.TempDir()
	s := newService(t, func(o *Options) { o.ImageDir = root })
	m := realImage(t, root, "wanted")
	machines := twoMachines()
	machines[0].Image = m.Version
	if err := s.KeepImages([]bootimage.Manifest{m}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetMachines(machines); err != nil {
		t.Fatal(err)
	}
	opt := s.opt
	opt.ImageDir = t.TempDir()
	again, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, get(again, "10.77.0.11", "GET", "/ipxe/"+macOne)); !strings.Contains(got, "/image/"+m.Version+"/xen") {
		t.Errorf("it does not boot what it is to boot:\n%s", got)
	}
	if got := body(t, get(again, "10.77.0.11", "GET", "/boot/"+macOne+"/initrd.img?image="+m.Version)); !strings.HasPrefix(got, "initrd.img of wanted") {
		t.Errorf("it is given %.40q", got)
	}
	if got := body(t, get(again, "10.77.0.12", "GET", "/ipxe/"+macTwo)); strings.Contains(got, "kernel") { // follows current, of which there is none
		t.Errorf("a machine boots what nobody told it to:\n%s", got)
	}
}
