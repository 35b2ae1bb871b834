package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/host"
	"cloudengine/workers/workertest"
)

func env(values map[string]string) func(string) string {
	return func(k string) string { return values[k] }
}

// A path where a plain file lies once gave a guest no disk and no error.
func TestHotplugInsistsOnABlockDevice(t *testing.T) {
	h := workertest.NewHost(64)
	e := env(map[string]string{"XENBUS_TYPE": "vbd", "XENBUS_PATH": "backend/vbd/3/51712"})
	dir := backend(e)
	file := filepath.Join(t.TempDir(), "vol1")
	must(t, os.WriteFile(file, []byte("not a disk"), 0o600))
	for path, want := range map[string]error{file: errNotBlock, "/dev/null": errNotBlock, file + ".none": os.ErrNotExist} {
		must(t, h.Write(t.Context(), dir+"/params", path))
		if err := plug(t.Context(), h, []string{"add"}, e); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if v, err := h.Read(t.Context(), dir+"/hotplug-status"); err == nil {
			t.Errorf("%s: hotplug-status is %q", path, v)
		}
	}
	if err := plug(t.Context(), h, []string{"remove"}, e); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{nil, {"dance"}} {
		if err := plug(t.Context(), h, bad, e); !errors.Is(err, errHotplug) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// A block device of somebody else at the place of a volume's would be worse than none.
func TestHotplugInsistsOnTheVolumesDevice(t *testing.T) {
	const target = "/dev/mapper/ce-c0000000-0000-4000-8000-000000000001"
	sys := t.TempDir()
	must(t, os.Mkdir(filepath.Join(sys, "dm"), 0o700))
	if err := isVolume(target, sys); !errors.Is(err, errNotOurs) {
		t.Errorf("no device of device-mapper: %v", err)
	}
	for uuid, want := range map[string]error{
		"CE-volume-c0000000-0000-4000-8000-000000000001": nil, "CE-volume-c0000000-0000-4000-8000-000000000002": errNotOurs,
		"CE-array-c0000000-0000-4000-8000-000000000001": errNotOurs, "": errNotOurs,
	} {
		must(t, os.WriteFile(filepath.Join(sys, "dm/uuid"), []byte(uuid+"\n"), 0o600))
		if err := isVolume(target, sys); !errors.Is(err, want) {
			t.Errorf("%s: %v", uuid, err)
		}
		if err := isVolume("/dev/vda", sys); !errors.Is(err, errNotOurs) {
			t.Errorf("/dev/vda: %v", err)
		}
	}
}

func TestKeeperOutlivesTheAgentAndNotTheBoot(t *testing.T) {
	dir := t.TempDir()
	open := func(boot string) *keeper {
		t.Helper()
		k, err := newKeeper(dir)
		must(t, err)
		must(t, k.sameBoot(boot))
		return k
	}
	count := func(k *keeper) uint64 {
		t.Helper()
		n, err := k.next()
		must(t, err)
		return n
	}
	k := open("boot1")
	key, err := k.key()
	must(t, err)
	public, err := key.PublicKey()
	must(t, err)
	d := desired.Document{Version: 1, Machine: "m", Boot: "boot1", Kind: "domain", ID: "x", Generation: events.Generation{Term: 2, Number: 7}, Body: []byte(`{}`)}
	must(t, errors.Join(k.keep(d), k.setEnrolled(true)))
	if a, b := count(k), count(k); a != 1 || b != 2 {
		t.Fatal(a, b)
	}
	k = open("boot1")
	w := workers.NewWishes("m", "boot1")
	must(t, k.load(w))
	again, err := k.key()
	must(t, err)
	if p, _ := again.PublicKey(); p != public || !k.enrolled() || count(k) != 3 {
		t.Fatal("the next agent of the boot has another key, counter or enrolment")
	}
	if g, ok := w.Generation(events.Ref{Kind: "domain", ID: "x"}); !ok || g != d.Generation {
		t.Fatalf("the document was lost: %v", g)
	}
	low := d
	low.ID, low.Generation = "y", events.Generation{Term: 1, Number: 9}
	if v := w.Take(low); v != workers.LowerTerm {
		t.Fatalf("the term was lost: %s", v)
	}
	k = open("boot2")
	again, err = k.key()
	must(t, err)
	if p, _ := again.PublicKey(); p == public || k.enrolled() || count(k) != 1 {
		t.Fatal("something of the last boot was kept")
	}
	info, err := os.Stat(filepath.Join(dir, "nkey"))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("the key's file has mode %v", info.Mode())
	}
	for _, id := range []string{"../x", "a/b", "", strings.Repeat("a", 65)} {
		d.ID = id
		if err := k.keep(d); !errors.Is(err, errName) {
			t.Errorf("id %q: %v", id, err)
		}
	}
}

func TestFlags(t *testing.T) {
	if _, err := parseFlags([]string{"--runner", "kvm"}); err == nil {
		t.Error("a runner that is not known was taken")
	}
	o, err := parseFlags(nil)
	if err != nil || o.runner != "xl" || o.tsc != "" || o.run != "/run/cloudengine" {
		t.Errorf("%+v, %v", o, err)
	}
}

// What the machine's processors need is said by who boots it.
func TestWordOfTheKernel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cmdline")
	must(t, os.WriteFile(file, []byte("console=hvc0 xce.tsc_mode=a ce.tsc_mode=native quiet\n"), 0o600))
	if got := kernelWord(file, "ce.tsc_mode"); got != "native" {
		t.Errorf("got %q", got)
	}
	if got := kernelWord(file, "ce.other") + kernelWord(file+".none", "console"); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestConsoleNamesAreThoseOfTheVM(t *testing.T) {
	a := &agent{machine: "m", log: slog.New(slog.DiscardHandler), wishes: workers.NewWishes("m", "b")}
	vm := newVM()
	if _, ok := a.consoleName(vm); ok {
		t.Fatal("an unknown VM has a console")
	}
	doc := desired.Document{Version: 1, Machine: "m", Boot: "b", Kind: desired.KindDomain, ID: string(vm), Generation: events.Generation{Term: 1, Number: 1},
		Body: []byte(`{"vm":"` + string(vm) + `","name":"Web_1","want":"running","epoch":{"term":1,"counter":1}}`)}
	a.wishes.Take(doc)
	if name, ok := a.consoleName(vm); !ok || name != host.DomainName(vm, "Web_1") || strings.ContainsAny(name, "_W/") {
		t.Fatal(name, ok)
	}
}
