package build

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cloudengine/bootimage"
)

func TestParseURI(t *testing.T) {
	d, err := parseURI(`'http://deb.example/pool/x/libxl_1%3a4.17%2b1_amd64.deb' libxl_1%3a4.17+1_amd64.deb 518920 SHA256:bb43`)
	if err != nil {
		t.Fatal(err)
	}
	want := bootimage.Package{Name: "libxl", Version: "1:4.17+1", SHA256: "bb43"}
	if d.Package != want || d.file != "libxl_1%3a4.17+1_amd64.deb" {
		t.Errorf("read %+v in %s", d.Package, d.file)
	}
	for _, bad := range []string{"", "'u' f.deb 1 SHA256:x", "'u' a_1_amd64.deb 1 MD5Sum:x", "'u' a_%zz_amd64.deb 1 SHA256:x"} {
		if _, err := parseURI(bad); err == nil {
			t.Errorf("took %q", bad)
		}
	}
}

func TestParseDepends(t *testing.T) {
	got := parseDepends(" libc6 (>= 2.35), python3:any, a | b,\n libx [amd64],zlib1g (>= 1:1.1), ")
	if want := []string{"libc6", "python3", "a", "libx", "zlib1g"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// shell is a dynamically linked program that every Debian machine has.
const shell = "/bin/sh"

func TestNeeded(t *testing.T) {
	libs, interp, err := needed(shell)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(libs, " "), "libc.so.6") || filepath.Base(interp) != "ld-linux-x86-64.so.2" {
		t.Errorf("%s needs %v and %s", shell, libs, interp)
	}
	if _, _, err := needed("/etc/passwd"); err == nil {
		t.Error("a text file was read as ELF")
	}
}

func TestClosureFollowsDependsOfPackages(t *testing.T) {
	s := &store{cache: t.TempDir(), say: t.Logf, debs: map[string]*deb{}}
	libc := mustDeb(t, s, "libc6", "", map[string]string{
		"lib/x86_64-linux-gnu/libc.so.6": mustLib(t, "libc.so.6"), "lib64/ld-linux-x86-64.so.2": mustLib(t, "ld-linux-x86-64.so.2")})
	prog := mustDeb(t, s, "prog", "libc6 (>= 2)", map[string]string{"usr/bin/prog": shell})
	start := []imageFile{{src: filepath.Join(prog.root, "usr/bin/prog"), dest: "/usr/bin/prog", from: prog}}
	files, err := s.closure(context.Background(), start, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*deb{}
	for _, f := range files {
		got[f.dest] = f.from
	}
	want := map[string]*deb{"/usr/bin/prog": prog, "/lib/x86_64-linux-gnu/libc.so.6": libc, "/lib64/ld-linux-x86-64.so.2": libc}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("closure is %v", got)
	}

	alone := mustDeb(t, s, "alone", "", map[string]string{"usr/bin/alone": shell})
	start = []imageFile{{src: filepath.Join(alone.root, "usr/bin/alone"), dest: "/usr/bin/alone", from: alone}}
	if _, err := s.closure(context.Background(), start, nil); err == nil || !strings.Contains(err.Error(), "libc.so.6") {
		t.Errorf("a library of an undeclared package was found, or the error does not name it: %v", err)
	}
}

func TestPinnedPackageIsTakenFromTheCache(t *testing.T) {
	s := &store{cache: t.TempDir(), say: t.Logf, debs: map[string]*deb{}}
	d := mustDeb(t, s, "prog", "", map[string]string{"usr/bin/prog": shell})
	sum, err := fileSum(filepath.Join(s.cache, d.file))
	if err != nil {
		t.Fatal(err)
	}
	s.debs = map[string]*deb{}
	s.pins = map[string]bootimage.Package{"prog": {Name: "prog", Version: "1", SHA256: sum}}
	got, err := s.add(context.Background(), "prog")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(got[0].root, "usr/bin/prog")); err != nil {
		t.Error(err)
	}
}

// mustDeb builds a real package with dpkg-deb, puts it into the store's cache and unpacks it.
func mustDeb(t *testing.T, s *store, name, depends string, files map[string]string) *deb {
	t.Helper()
	dir := t.TempDir()
	control := "Package: " + name + "\nVersion: 1\nArchitecture: amd64\nMaintainer: test\nDescription: test\n"
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	mustFile(t, filepath.Join(dir, "DEBIAN/control"), []byte(control))
	for dest, src := range files {
		body, err := os.ReadFile(src)
		if err != nil {
			t.Fatal(err)
		}
		mustFile(t, filepath.Join(dir, dest), body)
	}
	if err := os.Chmod(filepath.Join(dir, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := &deb{Package: bootimage.Package{Name: name, Version: "1", SHA256: strings.Repeat("0", 64)}, file: name + "_1_amd64.deb"}
	if _, err := run(context.Background(), dir, "dpkg-deb", "-b", dir, filepath.Join(s.cache, d.file)); err != nil {
		t.Fatal(err)
	}
	if err := s.unpack(context.Background(), d); err != nil {
		t.Fatal(err)
	}
	s.debs[name] = d
	return d
}

func mustLib(t *testing.T, soname string) string {
	t.Helper()
	p, err := findLib("/", soname)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustFile(t *testing.T, path string, body []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, body, 0o755); err != nil {
		t.Fatal(err)
	}
}
