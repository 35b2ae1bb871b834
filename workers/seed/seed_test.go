package seed

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"
	"gopkg.in/yaml.v3"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/host"
)

const (
	vm1 = events.VMID("0190bbbb-0000-7000-8000-0000000000b1")
	vm2 = events.VMID("0190bbbb-0000-7000-8000-0000000000b2")
)

var web = desired.Seed{Hostname: "web", Keys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJGpHmqxDDKWYzB0Z3bC2DFXGBW8mf4vWQqRMHlZ0XmD a@b", "ssh-ed25519 BBBB c"}}

// fakeLoops are loop devices that are not there. The fails-th call fails.
type fakeLoops struct {
	all   []Loop
	next  int
	fails int
}

var errInjected = errors.New("injected")

func (f *fakeLoops) fail() error {
	if f.fails--; f.fails == 0 {
		return errInjected
	}
	return nil
}

func (f *fakeLoops) List() ([]Loop, error) {
	out := slices.Clone(f.all)
	for i := range out {
		_, err := os.Stat(out[i].File)
		out[i].Deleted = err != nil
	}
	return out, f.fail()
}

func (f *fakeLoops) Attach(path string) error {
	if err := f.fail(); err != nil {
		return err
	}
	f.all = append(f.all, Loop{Number: f.next, Major: 7, Minor: uint32(f.next), File: path, ReadOnly: true})
	f.next++
	return nil
}

func (f *fakeLoops) Detach(n int) error {
	if err := f.fail(); err != nil {
		return err
	}
	f.all = slices.DeleteFunc(f.all, func(l Loop) bool { return l.Number == n })
	return nil
}

func newDir(t *testing.T) (*Dir, *fakeLoops) {
	f := &fakeLoops{}
	return &Dir{Path: filepath.Join(t.TempDir(), "seeds"), Loops: f}, f
}

func have(t *testing.T, d *Dir) []host.SeedDisk {
	t.Helper()
	all, err := d.Have(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// readImage gives the files of a seed, and its label.
func readImage(t *testing.T, b []byte) (map[string]string, string) {
	t.Helper()
	img, err := iso9660.OpenImage(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	name, err := img.Label()
	if err != nil {
		t.Fatal(err)
	}
	root, err := img.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	files, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		text, err := io.ReadAll(f.Reader())
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name()] = string(text)
	}
	return out, name
}

func TestImage(t *testing.T) {
	var b bytes.Buffer
	if err := image(&b, vm1, web); err != nil {
		t.Fatal(err)
	}
	files, name := readImage(t, b.Bytes())
	if name != "cidata" || len(files) != 2 {
		t.Errorf("label %q, files %v", name, files)
	}
	if want := "instance-id: \"" + string(vm1) + "\"\nlocal-hostname: \"web\"\n"; files["meta-data"] != want {
		t.Errorf("meta-data:\n%s\nwant\n%s", files["meta-data"], want)
	}
	if want := "#cloud-config\nhostname: \"web\"\nssh_authorized_keys:\n  - \"" + web.Keys[0] + "\"\n  - \"" + web.Keys[1] + "\"\n"; files["user-data"] != want {
		t.Errorf("user-data:\n%s\nwant\n%s", files["user-data"], want)
	}
}

// FuzzQuote: whatever a host name or a key is, a reader of YAML finds it and nothing else.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "web", "a\"b", "a\\", "\n- x", "#", "\"\nruncmd: [reboot]\n", "é\u2028\x00\x7f\u0085\ufeff😀", "\xff", "{{x}}", "!!python/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		clean := strings.ToValidUTF8(s, "\ufffd")
		if strings.ToValidUTF8(s, "") != s {
			return // each byte is replaced by itself then, which ToValidUTF8 does not do
		}
		var got struct {
			Hostname string         `yaml:"hostname"`
			Keys     []string       `yaml:"ssh_authorized_keys"`
			Rest     map[string]any `yaml:",inline"`
		}
		text := userData(desired.Seed{Hostname: s, Keys: []string{s, "k"}})
		if err := yaml.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if got.Hostname != clean || len(got.Keys) != 2 || got.Keys[0] != clean || got.Keys[1] != "k" || len(got.Rest) != 0 {
			t.Fatalf("%q is read as %+v from\n%s", s, got, text)
		}
		if strings.Count(text, "\n") != 5 {
			t.Fatalf("%q makes lines of its own:\n%s", s, text)
		}
	})
}

func TestSeedsComeAndGo(t *testing.T) {
	d, loops := newDir(t)
	if all := have(t, d); len(all) != 0 {
		t.Fatalf("at first: %+v", all)
	}
	path, err := d.Make(t.Context(), vm1, web)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.Make(t.Context(), vm1, web)
	if err != nil || again != path || len(loops.all) != 1 {
		t.Fatalf("again: %q, %v, %+v", again, err, loops.all)
	}
	name := host.SeedName(vm1, web)
	if all := have(t, d); len(all) != 1 || all[0] != (host.SeedDisk{Name: name, Device: "7:0"}) {
		t.Fatalf("%+v", all)
	}
	l, err := d.Device(path, vm1)
	if err != nil || l.Path() != "/dev/loop0" || !d.Is(path) {
		t.Fatalf("device: %+v, %v", l, err)
	}
	if _, err = d.Device(path, vm2); !errors.Is(err, errOther) {
		t.Fatalf("another's seed: %v", err)
	}
	for _, other := range []string{"/dev/mapper/ce-1", path + ".tmp", filepath.Dir(path) + "/x/../" + filepath.Base(path), filepath.Dir(path)} {
		if d.Is(other) {
			t.Errorf("%s is a seed", other)
		}
	}
	for range 2 {
		if err := d.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if all := have(t, d); len(all) != 0 || len(loops.all) != 0 {
		t.Fatalf("left: %+v, %+v", all, loops.all)
	}
	if _, err := d.Device(path, vm1); !errors.Is(err, errNoLoop) {
		t.Fatalf("a seed that is gone: %v", err)
	}
	for _, bad := range []events.VMID{"", "../etc", "a.b", "x/y"} {
		if _, err := d.Make(t.Context(), bad, web); err == nil {
			t.Errorf("a seed of %q was made", bad)
		}
	}
	if err := d.Remove(t.Context(), "../passwd"); !errors.Is(err, errName) {
		t.Errorf("remove: %v", err)
	}
}

// TestWhatWasDoneByHalfIsSeen: after a failure at any call there is either a seed that stands or one without a device, and both can be made
// right and taken away.
func TestWhatWasDoneByHalfIsSeen(t *testing.T) {
	name := host.SeedName(vm1, web)
	for fails := 1; fails <= 3; fails++ {
		d, loops := newDir(t)
		loops.fails = fails
		if _, err := d.Make(t.Context(), vm1, web); err == nil && fails < 3 {
			t.Fatalf("call %d did not fail", fails)
		}
		loops.fails = 0
		for _, s := range have(t, d) {
			if s.Name != name {
				t.Fatalf("seed %+v", s)
			}
		}
		if _, err := d.Make(t.Context(), vm1, web); err != nil {
			t.Fatal(err)
		}
		loops.fails = fails
		_ = d.Remove(t.Context(), name)
		loops.fails = 0
		if err := d.Remove(t.Context(), name); err != nil || len(have(t, d)) != 0 {
			t.Fatalf("remove: %v, left %+v", err, have(t, d))
		}
	}
	d, loops := newDir(t)
	path, err := d.Make(t.Context(), vm1, web)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // a file that is gone below its device
		t.Fatal(err)
	}
	if all := have(t, d); len(all) != 1 || all[0].Device != "" {
		t.Fatalf("without its file: %+v", all)
	}
	if err := os.WriteFile(path+halfway, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), name); err != nil || len(have(t, d)) != 0 || len(loops.all) != 0 {
		t.Fatalf("remove: %v, left %+v %+v", err, have(t, d), loops.all)
	}
}
