package main

import (
	"bytes"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"cloudengine/e2e/lab/job"
)

func TestListenerSortsLines(t *testing.T) {
	var out, console bytes.Buffer
	ended := 0
	l := listener{out: &out, console: &console, ended: func() { ended++ }}
	program, kernel := lineWriter{f: l.program}, lineWriter{f: l.kernel}
	for _, step := range []struct {
		to   *lineWriter
		text string
	}{
		{&kernel, "noise\r\n"}, {&program, job.Begin[:4]}, {&program, job.Begin[4:] + "\r\n=== RUN"}, {&kernel, "oo"}, {&program, " Test\r\n"},
		{&kernel, "ps\r\n"}, {&program, "PASS\n" + job.End(7) + "\n"}, {&kernel, "going down"},
	} {
		if n, err := io.WriteString(step.to, step.text); err != nil || n != len(step.text) {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	kernel.flush()
	if got, want := out.String(), "=== RUN Test\nPASS\n"; got != want {
		t.Errorf("the tests' output is %q, want %q", got, want)
	}
	if got, want := console.String(), "kernel: oops\n"; got != want {
		t.Errorf("the kernel's messages are %q, want %q", got, want)
	}
	if code, ok := l.code(); !ok || code != 7 || ended != 1 {
		t.Errorf("code %d, %v, told %d times", code, ok, ended)
	}
	console.Reset()
	if l.complain(); console.Len() != 0 {
		t.Errorf("the boot is told of a machine whose tests began: %q", console.String())
	}
	l.begun = false
	l.complain()
	if got, want := console.String(), "boot: noise\n"; got != want {
		t.Errorf("the boot's end is %q, want %q", got, want)
	}
}

func TestParseFlags(t *testing.T) {
	t.Setenv(imageVar, "/srv/image")
	o, err := parseFlags([]string{"-disks", "2", "-limit", "4m", "./p", "-test.run", "TestReal", "-test.v"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.image != "/srv/image" || o.disks != 2 || o.pkg != "./p" {
		t.Errorf("options %+v", o)
	}
	if want := []string{"-test.run", "TestReal", "-test.v", "-test.timeout=3m0s"}; !reflect.DeepEqual(o.args, want) {
		t.Errorf("arguments %q", o.args)
	}
	for limit, want := range map[time.Duration]string{time.Minute: "30s", 24 * time.Second: "6s"} {
		if got := withTimeout(nil, limit); got[0] != "-test.timeout="+want {
			t.Errorf("limit %s: arguments %q", limit, got)
		}
	}
	if got := withTimeout([]string{"--test.timeout=1s"}, time.Minute); len(got) != 1 {
		t.Errorf("arguments %q", got)
	}
	for _, bad := range [][]string{{}, {"-disks", "x", "./p"}, {"-nothing", "./p"}} {
		if _, err := parseFlags(bad, io.Discard); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestMachineHasWhatWasAskedFor(t *testing.T) {
	m := machine{options: options{disks: 2, diskMiB: 1, nets: 2, memory: 300, cpus: 1}, dir: t.TempDir()}
	args := strings.Join(m.args(), " ")
	for _, want := range []string{"serial=labdisk0", "serial=labdisk1", "mac=52:54:00:1a:b0:02", "host_mtu=4200", "-m 300", "-no-reboot"} {
		if !strings.Contains(args, want) {
			t.Errorf("no %s in %s", want, args)
		}
	}
	for _, bad := range []string{"labdisk2", "-netdev user", "-netdev tap", "-netdev socket"} {
		if strings.Contains(args, bad) {
			t.Errorf("%s in %s", bad, args)
		}
	}
	if err := m.makeDisks(); err != nil {
		t.Fatal(err)
	}
	for _, disk := range []string{"disk0", "disk1"} {
		if info, err := os.Stat(m.file(disk)); err != nil || info.Size() != 1<<20 {
			t.Errorf("%s: %v, %v", disk, info, err)
		}
	}
}
