package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/commands/backup"
	"cloudengine/events"
)

// chain makes a log of n blocks.
func chain(t *testing.T, n int) [][]byte {
	t.Helper()
	var out [][]byte
	prev := ""
	for i := range n {
		b := events.Block{Format: events.Format, Term: 1, First: uint64(i + 1), Time: time.Unix(1700000000+int64(i), 0).UTC(), Prev: prev, Decisions: []events.Decision{{
			Intent: events.IntentID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i)), Actor: "admin", Kind: events.KindAccount, Verb: "create",
			Outcome: events.Outcome{Status: events.Nothing},
		}}}
		raw, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		out, prev = append(out, raw), events.Digest(raw)
	}
	return out
}

func serving(log [][]byte) func(context.Context, func(seq, last uint64, payload []byte) error) error {
	return func(_ context.Context, f func(seq, last uint64, payload []byte) error) error {
		for i, p := range log {
			if err := f(uint64(i+1), uint64(len(log)), p); err != nil {
				return err
			}
		}
		return nil
	}
}

func write(t *testing.T, root string, files map[string]string) string {
	t.Helper()
	for name, body := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(body), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

var kept = map[string]string{"master.key": "key", "ca/ca.key": "ca", "secrets/bmc.sealed": "sealed", "blobs/abc": strings.Repeat("blob", 1000), "audit/key": "a"}

func make1(t *testing.T, log [][]byte) (file, data string) {
	t.Helper()
	data = write(t, t.TempDir(), kept)
	write(t, data, map[string]string{"streams/x": "derived", "mariadb/y": "derived", "lock": "", "blobs/abd.part": "half"})
	outside := write(t, t.TempDir(), map[string]string{"config.yaml": "serve: {}\n"})
	file = filepath.Join(t.TempDir(), "b")
	m, err := backup.Create(t.Context(), file, backup.Source{
		Data: data, Derived: []string{"streams", "mariadb", "lock"}, Outside: map[string]string{"config.yaml": filepath.Join(outside, "config.yaml")},
		Log: serving(log), Version: "test", Now: time.Unix(1800000000, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	if m.Log.Blocks != uint64(len(log)) || m.Log.Number != uint64(len(log)) || m.Log.Head != events.Digest(log[len(log)-1]) {
		t.Fatalf("manifest: %+v", m.Log)
	}
	return file, data
}

func target(data string) backup.Target {
	return backup.Target{Data: data, Load: backup.LoadStream, Mark: "restored.json", Outside: "outside", Now: time.Unix(1900000000, 0)}
}

func TestThereAndBack(t *testing.T) {
	log := chain(t, 300)
	file, _ := make1(t, log)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	data := filepath.Join(t.TempDir(), "new")
	if _, err := backup.Restore(t.Context(), file, target(data)); err != nil {
		t.Fatal(err)
	}
	for name, body := range kept {
		raw, err := os.ReadFile(filepath.Join(data, name))
		info, err2 := os.Stat(filepath.Join(data, name))
		if err != nil || err2 != nil || string(raw) != body || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, errors.Join(err, err2), info)
		}
	}
	for _, name := range []string{"mariadb/y", "streams/x", "lock", "blobs/abd.part", ".log"} {
		if _, err := os.Stat(filepath.Join(data, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was restored: %v", name, err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(data, "outside/config.yaml")); err != nil || string(raw) != "serve: {}\n" {
		t.Errorf("configuration: %q %v", raw, err)
	}
	var mark backup.Mark
	raw, err := os.ReadFile(filepath.Join(data, "restored.json"))
	if err != nil || json.Unmarshal(raw, &mark) != nil || mark.Number != 300 || mark.Head != events.Digest(log[299]) || mark.At.Unix() != 1900000000 {
		t.Errorf("mark: %s %v", raw, err)
	}
	n := 0
	err = backup.ReadStream(filepath.Join(data, "streams"))(t.Context(), func(seq, last uint64, payload []byte) error {
		if n++; seq != uint64(n) || last != 300 || string(payload) != string(log[n-1]) {
			t.Errorf("block %d differs", seq)
		}
		return nil
	})
	if err != nil || n != 300 {
		t.Errorf("%d blocks: %v", n, err)
	}
}

// TestDamaged: whatever byte is lost, nothing is restored.
func TestDamaged(t *testing.T) {
	file, _ := make1(t, chain(t, 3))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	try := func(what string, body []byte) {
		t.Helper()
		bad := filepath.Join(parent, "bad")
		if err := os.WriteFile(bad, body, 0o600); err != nil {
			t.Fatal(err)
		}
		to := target(filepath.Join(parent, "data"))
		to.Load = func(context.Context, string, func(func(uint64, []byte) error) error) error { return nil }
		_, err := backup.Restore(t.Context(), bad, to)
		list, err2 := os.ReadDir(parent)
		if err == nil || err2 != nil || len(list) != 1 {
			t.Fatalf("%s: %v; left %v", what, err, list)
		}
	}
	for n := 0; n < len(whole); n += 7 {
		try(fmt.Sprintf("cut after %d bytes", n), whole[:n])
		changed := append([]byte{}, whole...)
		changed[n] ^= 0x10
		try(fmt.Sprintf("byte %d changed", n), changed)
	}
	full := write(t, t.TempDir(), map[string]string{"something": "else"})
	if _, err := backup.Restore(t.Context(), file, target(full)); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("into a directory with something in it: %v", err)
	}
}

func TestBrokenLogIsNotBackedUp(t *testing.T) {
	log := chain(t, 5)
	file := filepath.Join(t.TempDir(), "b")
	s := backup.Source{Data: t.TempDir(), Log: serving(append(log[:2:2], log[3:]...)), Now: time.Now()}
	if _, err := backup.Create(t.Context(), file, s); !errors.Is(err, events.ErrBroken) {
		t.Errorf("a gap: %v", err)
	}
	if list, _ := filepath.Glob(file + "*"); len(list) > 0 {
		t.Errorf("left %v", list)
	}
	s.Log = serving(nil)
	if _, err := backup.Create(t.Context(), file, s); err == nil {
		t.Error("an empty log was backed up")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Log = serving(log)
	if _, err := backup.Create(t.Context(), file, s); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
}
