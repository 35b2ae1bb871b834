package bootimage_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cloudengine/bootimage"
)

func TestDiff(t *testing.T) {
	pkg := func(name, version, sum string) bootimage.Package {
		return bootimage.Package{Name: name, Version: version, SHA256: sum}
	}
	part := func(name string, size int64, sum string) bootimage.Part {
		return bootimage.Part{Name: name, Size: size, SHA256: sum}
	}
	tools := []bootimage.Tool{{Name: "go", Version: "1.26"}}
	a := bootimage.Manifest{Kernel: "6.1.0-1", Packages: []bootimage.Package{pkg("libc6", "2.36", "aa"), pkg("gone", "1", "bb"), pkg("rebuilt", "1", "cccccccccccccc")},
		Tools: tools, Parts: []bootimage.Part{part("xen", 10, "dd"), part("initrd.img", 20, "ee")}}
	if got := bootimage.Diff(a, a); len(got) != 0 {
		t.Errorf("an image differs from itself: %v", got)
	}
	b := bootimage.Manifest{Kernel: "6.1.0-2", Packages: []bootimage.Package{pkg("libc6", "2.37", "ab"), pkg("new", "3", "ff"), pkg("rebuilt", "1", "dddddddddddddd")},
		Tools: tools, Parts: []bootimage.Part{part("xen", 10, "dd"), part("initrd.img", 25, "ef")}, Contents: []bootimage.Content{{Name: "noded", Files: 1, Size: 7}}}
	var got []string
	for _, c := range bootimage.Diff(a, b) {
		got = append(got, strings.Join([]string{c.What, c.Name, c.Before, c.After}, "|"))
	}
	want := []string{"kernel|linux|6.1.0-1|6.1.0-2", "package|gone|1|", "package|libc6|2.36|2.37", "package|new||3",
		"package|rebuilt|1 cccccccccccc|1 dddddddddddd", "part|initrd.img|20|25", "content|noded||7"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v, want\n%v", got, want)
	}
}

// TestVerify: an image of which one byte was changed is refused, whatever its size.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	m := bootimage.Manifest{Parts: []bootimage.Part{{Name: bootimage.XenFile, Size: 3, SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}} // of "abc" (FIPS 180)
	if err := m.Seal(); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, bootimage.ManifestFile), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	for content, good := range map[string]bool{"abc": true, "abd": false, "abcd": false, "": false} {
		if err := os.WriteFile(filepath.Join(dir, bootimage.XenFile), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := bootimage.Verify(dir); (err == nil) != good {
			t.Errorf("%q: %v", content, err)
		}
	}
	var out bytes.Buffer
	if err := bootimage.CopyPart(&out, strings.NewReader(strings.Repeat("abc", 1<<20)), m.Parts[0]); err == nil || out.Len() > 4 {
		t.Errorf("a source without end: %v after %d bytes", err, out.Len())
	}
}
