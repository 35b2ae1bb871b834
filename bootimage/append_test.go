package bootimage_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"cloudengine/bootimage"
)

func TestAppendFiles(t *testing.T) {
	files := []bootimage.File{
		{Path: bootimage.BootConfigPath, Data: []byte(`{"machine":"m"}`)},
		{Path: "/etc/cloudengine/a", Data: nil, Program: true},
	}
	for _, base := range []string{"", "x", "xyz", "xyzw"} {
		r, size, err := bootimage.AppendFiles(bytes.NewReader([]byte(base)), int64(len(base)), files...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(got)) != size {
			t.Errorf("base %q: size says %d, read %d", base, size, len(got))
		}
		start := (len(base) + 3) / 4 * 4
		if string(got[:len(base)]) != base || !bytes.Equal(got[len(base):start], make([]byte, start-len(base))) {
			t.Errorf("base %q is not kept and padded with zeros", base)
		}
		checkArchive(t, got[start:])
	}
}

func checkArchive(t *testing.T, archive []byte) {
	t.Helper()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	want := []string{"etc", "etc/cloudengine", "etc/cloudengine/a", "etc/cloudengine/boot.json"}
	if len(names) != len(want) {
		t.Fatalf("names %v, want %v", names, want)
	}
	for i := range want {
		if names[i] != want[i] {
			t.Fatalf("names %v, want %v", names, want)
		}
	}
	if mode := records[2].Mode; mode != cpio.S_IFREG|0o700 {
		t.Errorf("a program has mode %o", mode)
	}
	last := records[3]
	if last.Mode != cpio.S_IFREG|0o600 || last.UID != 0 || last.MTime != 0 {
		t.Errorf("boot.json has mode %o, uid %d, mtime %d", last.Mode, last.UID, last.MTime)
	}
	body, err := io.ReadAll(io.NewSectionReader(last.ReaderAt, 0, int64(last.FileSize)))
	if err != nil || string(body) != `{"machine":"m"}` {
		t.Errorf("boot.json holds %q, %v", body, err)
	}
}

func TestAppendFilesRefusesBadPaths(t *testing.T) {
	for _, p := range []string{"", "/", "etc/x", "/etc/../x", "/etc//x", "/etc/x/"} {
		if _, err := bootimage.Tail(0, bootimage.File{Path: p}); err == nil {
			t.Errorf("path %q was taken", p)
		}
	}
	same := bootimage.File{Path: "/a"}
	if _, err := bootimage.Tail(0, same, same); err == nil {
		t.Error("the same path twice was taken")
	}
}
