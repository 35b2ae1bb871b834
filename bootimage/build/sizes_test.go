package build

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/u-root/mkuimage/cpio"

	"cloudengine/bootimage"
)

func TestMeasure(t *testing.T) {
	var plain, packed bytes.Buffer
	w := cpio.Newc.Writer(&plain)
	for _, r := range []cpio.Record{cpio.Directory("usr", 0o755), cpio.StaticFile("usr/xl", "12345", 0o755), cpio.StaticFile("usr/lib.so", "123", 0o644),
		cpio.StaticFile("lib/modules/6/a.ko", "1234", 0o644), cpio.StaticFile("bbin/bb", "1", 0o755), cpio.StaticFile("etc/empty", "", 0o644), cpio.Symlink("bin", "usr")} {
		if err := w.WriteRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	if err := compress(&packed, &plain); err != nil {
		t.Fatal(err)
	}
	got, err := measure(&packed, map[string]string{"usr/xl": "xen-utils", "usr/lib.so": "xen-utils"})
	want := []bootimage.Content{{Name: contentModules, Files: 1, Size: 4}, {Name: contentUserland, Files: 1, Size: 1}, {Name: "xen-utils", Files: 2, Size: 8}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("measured %+v, %v; want %+v", got, err, want)
	}
}
