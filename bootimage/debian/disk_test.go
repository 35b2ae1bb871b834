package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPartitionTable(t *testing.T) {
	b := partitionTable("5e1f7e57-0000-4000-8000-000000000001", 600<<11)
	if len(b) != 512 || b[510] != 0x55 || b[511] != 0xaa {
		t.Fatalf("%d bytes, signature %x", len(b), b[510:])
	}
	first, count := binary.LittleEndian.Uint32(b[454:]), binary.LittleEndian.Uint32(b[458:])
	if first != 2048 || first+count != 600<<11 || b[450] != 0x83 {
		t.Errorf("partition of type %#x from %d, %d sectors", b[450], first, count)
	}
	if slices.ContainsFunc(b[462:510], func(c byte) bool { return c != 0 }) {
		t.Error("there is a second partition")
	}
	if other := partitionTable("5e1f7e57-0000-4000-8000-000000000002", 600<<11); slices.Equal(b[440:444], other[440:444]) {
		t.Error("two images have one identifier")
	}
}

func TestSourcesAreThoseOfThisMachinesApt(t *testing.T) {
	got, err := parseTargets(`Packages http://mirror.example/debian/ bookworm main
Packages http://mirror.example/debian/ bookworm contrib
Packages http://mirror.example/debian/ bookworm-updates main
Translations http://mirror.example/debian/ bookworm main
Packages http://mirror.example/debian-security/ bookworm-security main
Packages http://mirror.example/debian-security/ bookworm-security main
Packages http://other.example/node nodistro main
`)
	want := []string{
		"deb http://mirror.example/debian-security/ bookworm-security main", "deb http://mirror.example/debian/ bookworm main",
		"deb http://mirror.example/debian/ bookworm-updates main",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := parseTargets("Packages http://mirror.example/debian/ trixie main\n"); err == nil {
		t.Error("another release is taken")
	}
}

// TestOurFiles: scripts can be executed, and nothing else can.
func TestOurFiles(t *testing.T) {
	dir := t.TempDir()
	if err := writeRootfs(dir); err != nil {
		t.Fatal(err)
	}
	for path, script := range map[string]bool{
		"etc/kernel/postinst.d/zz-xen-pv": true, "etc/kernel/postrm.d/zz-xen-pv": true, "usr/local/lib/cloudengine/ready": true,
		"boot/grub/grub.cfg": false, "etc/fstab": false, "etc/systemd/system/cloudengine-ready.service": false,
	} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode().Perm()&0o111 != 0 != script {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	m := manifest{Packages: map[string]string{"a": "1"}}
	first, err := m.root()
	if err != nil {
		t.Fatal(err)
	}
	m.Packages["a"] = "2"
	if second, err := m.root(); err != nil || second == first || strings.Count(second, "-") != 4 {
		t.Errorf("%s and %s, %v", first, second, err)
	}
}
