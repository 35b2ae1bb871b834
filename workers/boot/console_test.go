package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConsoleIsBoundedWhileItIsWritten(t *testing.T) {
	const limit = 1000
	dir := t.TempDir()
	path := filepath.Join(dir, "guest-g1.log")
	daemon, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	var all strings.Builder
	for i := range 100 {
		line := strings.Repeat(string(rune('a'+i%26)), 49) + "\n"
		all.WriteString(line)
		if _, err := daemon.WriteString(line); err != nil {
			t.Fatal(err)
		}
		if err := boundConsoles(dir, limit); err != nil {
			t.Fatal(err)
		}
		if size := sizeOf(t, path) + sizeOf(t, path+".1"); size > limit {
			t.Fatalf("after %d bytes printed, %d are kept", all.Len(), size)
		}
	}
	got, err := readConsole(dir, "g1", 500)
	if err != nil {
		t.Fatal(err)
	}
	if want := all.String()[all.Len()-500:]; string(got) != want {
		t.Errorf("read %q\nwant %q", got, want)
	}
}

func TestReadConsole(t *testing.T) {
	dir := t.TempDir()
	if text, err := readConsole(dir, "never", 100); len(text) != 0 || err != nil {
		t.Errorf("a domain that never printed gives %q, %v", text, err)
	}
	mustWrite(t, filepath.Join(dir, "guest-g.log.1"), "older\n")
	mustWrite(t, filepath.Join(dir, "guest-g.log"), "newer\n")
	for max, want := range map[int64]string{100: "older\nnewer\n", 8: "r\nnewer\n", 6: "newer\n", 3: "er\n", 0: "", -1: ""} {
		if text, err := readConsole(dir, "g", max); string(text) != want || err != nil {
			t.Errorf("last %d: %q, %v", max, text, err)
		}
	}
	for _, bad := range []string{"", "../../etc/passwd", "a/b"} {
		if _, err := readConsole(dir, bad, 1); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestForgetConsole(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "guest-g.log"), "x")
	for range 2 {
		if err := forgetConsole(dir, "g"); err != nil {
			t.Fatal(err)
		}
	}
	if sizeOf(t, filepath.Join(dir, "guest-g.log")) != 0 {
		t.Error("the log is still there")
	}
}

// A tenant who makes, floods and deletes one VM after the other must not fill the control domain's memory.
func TestConsolesTogetherAreBounded(t *testing.T) {
	dir := t.TempDir()
	running := filepath.Join(dir, "guest-runs.log")
	daemon, err := os.OpenFile(running, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	start := time.Now().Add(-time.Hour)
	for i := range 20 {
		for _, end := range []string{".log", ".log.1"} {
			path := filepath.Join(dir, fmt.Sprintf("guest-gone%d%s", i, end))
			mustWrite(t, path, strings.Repeat("x", 100))
			if err := os.Chtimes(path, time.Time{}, start.Add(time.Duration(i)*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := daemon.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if err := boundTotal(dir, 1000); err != nil {
		t.Fatal(err)
	}
	var total int64
	for i := range 20 {
		size := sizeOf(t, filepath.Join(dir, fmt.Sprintf("guest-gone%d.log", i))) + sizeOf(t, filepath.Join(dir, fmt.Sprintf("guest-gone%d.log.1", i)))
		if i < 15 && size != 0 || i > 15 && size != 200 {
			t.Errorf("of domain %d, %d bytes are kept", i, size)
		}
		total += size
	}
	if total += sizeOf(t, running); total > 1000 || sizeOf(t, running) != 3 {
		t.Errorf("%d bytes are kept, %d of the newest log", total, sizeOf(t, running))
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// What a VM's domains printed goes with them; those of others stay.
func TestForgetConsolesOfOneVM(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"guest-ce-1-web.log", "guest-ce-1-web.log.1", "guest-ce-2-web.log"} {
		mustWrite(t, filepath.Join(dir, name), "x")
	}
	if err := forgetAll(filepath.Join(dir, "guest-"), "ce-1-"); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "guest-ce-2-web.log" {
		t.Errorf("left are %v, %v", left, err)
	}
	for _, bad := range []string{"", "*", "../x", "a?"} {
		if err := forgetAll(filepath.Join(dir, "guest-"), bad); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
