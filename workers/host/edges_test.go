package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/workers"
)

// fakeXL writes a program that stands in for xl and notes its arguments.
func fakeXL(t *testing.T, script string) (*XL, func() string) {
	t.Helper()
	dir := t.TempDir()
	path, calls := filepath.Join(dir, "xl"), filepath.Join(dir, "calls")
	text := "#!/bin/sh\necho \"$@\" >> " + calls + "\n" + script
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return &XL{Path: path, Dir: filepath.Join(dir, "domains")}, func() string {
		b, _ := os.ReadFile(calls)
		return string(b)
	}
}

func TestXLList(t *testing.T) {
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	x, _ := fakeXL(t, "case $1 in list) cat "+here+"/xl-list-v.txt;; sched-credit) cat "+here+"/xl-sched-credit.txt;; info) cat "+here+"/xl-info.txt;; esac")
	all, err := x.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Weight != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	if _, err := x.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestXLThatFailsIsNotAnEmptyHost(t *testing.T) {
	for name, script := range map[string]string{
		"exit":  "echo 'xenstore is gone' >&2; exit 1",
		"empty": "exit 0",
		"half":  "head -c 300 /dev/zero; exit 0",
	} {
		x, _ := fakeXL(t, script)
		if all, err := x.List(t.Context()); err == nil {
			t.Errorf("%s: %+v", name, all)
		} else if name == "exit" && (!errors.Is(err, ErrTool) || !strings.Contains(err.Error(), "xenstore is gone")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestXLReadsAreTriedAgainAfterASignal(t *testing.T) {
	x, calls := fakeXL(t, "kill -SEGV $$")
	if _, err := x.Info(t.Context()); err == nil || strings.Count(calls(), "info") != 4 {
		t.Fatalf("%v after calls %q", err, calls())
	}
	if err := x.SetWeight(t.Context(), 3, 4); err == nil || strings.Count(calls(), "sched-credit -d 3 -w 4") != 1 {
		t.Fatalf("a change was tried again: %v, %q", err, calls())
	}
}

// Without a bound the agent would look at its host no more, and yet give signs of life.
func TestXLReadsThatHangAreTriedAgain(t *testing.T) {
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	x, calls := fakeXL(t, "if [ -e $0.hung ]; then cat "+here+"/xl-info.txt; exit 0; fi; touch $0.hung; exec sleep 600")
	x.ReadTime = time.Second
	if _, err := x.Info(t.Context()); err != nil || strings.Count(calls(), "info") < 2 { // more, if the machine is slow
		t.Fatalf("%v after calls %q", err, calls())
	}
}

func TestXLCreateWritesTheConfiguration(t *testing.T) {
	x, calls := fakeXL(t, "cat $4")
	c := Config{Name: "ce-1-web", UUID: "u", Type: events.TypePVH, VCPUs: 2, MemoryMiB: 128, Weight: 3, Kernel: "/k", Ramdisk: "/r", Cmdline: `a="b" \n`, TSCMode: "native"}
	if err := x.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := calls(); !strings.HasPrefix(got, "create -p -e ") {
		t.Fatal(got)
	}
	b, err := os.ReadFile(filepath.Join(x.Dir, "ce-1-web.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	want := `name = "ce-1-web"
uuid = "u"
type = "pvh"
memory = 128
maxmem = 128
vcpus = 2
maxvcpus = 2
cpu_weight = 3
kernel = "/k"
ramdisk = "/r"
cmdline = "a=\x22b\x22 \x5cn"
tsc_mode = "native"
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
on_watchdog = "preserve"
on_soft_reset = "preserve"
`
	if string(b) != want {
		t.Errorf("got\n%swant\n%s", b, want)
	}
}

func TestConfigurationsThatCannotBeMade(t *testing.T) {
	good := workers.Step{Target: "ce-1-web", Params: map[string]string{
		"vm": "u", "type": "pv", "vcpus": "1", "memory": "64", "weight": "1", "kernel": strings.Repeat("a", 64), "ramdisk": "", "cmdline": "quiet", "vmname": "web", "epoch": "1.1",
	}}
	path := func(d string) string { return "/" + d }
	if c, err := configOf(good, "", path); err != nil || c.Cmdline != "quiet ce.vm=u ce.name=web ce.epoch=1.1" {
		t.Fatalf("%+v, %v", c, err)
	}
	for key, bad := range map[string]string{
		"type": "xen", "vcpus": "0", "memory": "-1", "weight": "70000", "kernel": "../etc/passwd", "cmdline": "a\nb", "vmname": "w\x00b",
	} {
		s := workers.Step{Target: good.Target, Params: map[string]string{}}
		for k, v := range good.Params {
			s.Params[k] = v
		}
		s.Params[key] = bad
		if c, err := configOf(s, "", path); !errors.Is(err, errConfig) {
			t.Errorf("%s=%q: %+v, %v", key, bad, c, err)
		}
	}
}

func FuzzConfigText(f *testing.F) {
	f.Add("console=hvc0", "web")
	f.Fuzz(func(t *testing.T, cmdline, name string) {
		c := Config{Name: DomainName("0190bbbb-0000-7000-8000-0000000000b1", name), UUID: "u", Type: events.TypePV, VCPUs: 1, MemoryMiB: 1, Kernel: "/k", Cmdline: cmdline}
		if strings.ContainsAny(c.Name, "/\"\\\n ") || len(c.Name) > 60 {
			t.Fatalf("name %q", c.Name)
		}
		text := c.Text()
		if lines := strings.Count(text, "\n"); lines != 14 {
			t.Fatalf("%d lines:\n%s", lines, text)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			if n := strings.Count(line, `"`); n != 0 && n != 2 {
				t.Fatalf("%q", line)
			}
		}
	})
}

func blobServer(t *testing.T, files map[string]string) (*httptest.Server, *int) {
	t.Helper()
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		body, ok := files[strings.TrimPrefix(r.URL.Path, "/blob/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s, &n
}

func sum(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:])
}

func TestBlobCache(t *testing.T) {
	a, b, c := strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40)
	files := map[string]string{sum(a): a, sum(b): b, sum(c): c, sum("truth"): "a lie"}
	s, asked := blobServer(t, files)
	cache := &BlobCache{Dir: filepath.Join(t.TempDir(), "blobs"), Base: s.URL, Limit: 100}
	ctx := t.Context()
	for range 2 {
		if err := cache.Fetch(ctx, sum(a), 40); err != nil {
			t.Fatal(err)
		}
	}
	if *asked != 1 {
		t.Fatalf("asked %d times for one file", *asked)
	}
	if got, err := os.ReadFile(cache.Path(sum(a))); err != nil || string(got) != a {
		t.Fatalf("%q, %v", got, err)
	}
	for _, bad := range []struct {
		digest string
		size   int64
		want   error
	}{{sum("truth"), 5, ErrDigest}, {sum(b), 39, ErrDigest}, {sum(b), 101, ErrNoRoom}} {
		if err := cache.Fetch(ctx, bad.digest, bad.size); !errors.Is(err, bad.want) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := cache.Fetch(ctx, "../../etc/passwd", 1); err == nil {
		t.Error("a path was taken for a digest")
	}
	if err := cache.Fetch(ctx, sum("none"), 1); err == nil {
		t.Error("a file that is not there was fetched")
	}
	if err := cache.Fetch(ctx, sum(b), 40); err != nil {
		t.Fatal(err)
	}
	cache.Needed = func() map[string]bool { return map[string]bool{sum(b): true} }
	if err := cache.Fetch(ctx, sum(c), 40); err != nil {
		t.Fatal(err)
	}
	have, err := cache.Have()
	if err != nil || len(have) != 2 || strings.Contains(strings.Join(have, " "), sum(a)) {
		t.Fatalf("%v, %v: want b, which is needed, and c", have, err)
	}
	cache.Needed = func() map[string]bool { return map[string]bool{sum(b): true, sum(c): true} }
	if err := cache.Fetch(ctx, sum(a), 40); !errors.Is(err, ErrNoRoom) {
		t.Fatalf("needed files were dropped: %v", err)
	}
}

func TestCapacityIsMeasuredOncePerBoot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "capacity.json")
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, sample(t, "xl-list-v.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	x, _ := fakeXL(t, "case $1 in list) cat "+list+";; sched-credit) cat "+here+"/xl-sched-credit.txt;; info) cat "+here+"/xl-info.txt;; esac")
	c, err := MeasureCapacity(t.Context(), x, file)
	if err != nil || c.AllocatableMiB != 872+128-ReserveMiB || c.PCPUs != 2 || c.XenVersion != "4.17.7" {
		t.Fatalf("with a domain there: %+v, %v", c, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("what was measured beside a domain was kept")
	}
	lines := strings.SplitAfter(string(sample(t, "xl-list-v.txt")), "\n")
	if err := os.WriteFile(list, []byte(lines[0]+lines[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if c, err = MeasureCapacity(t.Context(), x, file); err != nil || c.AllocatableMiB != 872-ReserveMiB {
			t.Fatalf("%+v, %v", c, err)
		}
		x.Path = "/does/not/exist" // the second time it comes from the file
	}
}
