package build

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/mkuimage/cpio"

	"cloudengine/bootimage"
)

const kernelText = "\x7fELF kernel payload for the test"

// xzKernel is kernelText packed as kernels are: xz --check=crc32 --x86 --lzma2.
const xzKernel = "fd377a585a0000016922de3602010400210116000d86351f01001f7f454c46206b65726e656c207061796c6f616420666f7220746865" +
	"207465737400d93d825c000134201466c2a09042990d010000000001595a"

func TestVmlinux(t *testing.T) {
	packed, err := hex.DecodeString(xzKernel)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string][]byte{"xz": packed, "zstd": z.EncodeAll([]byte(kernelText), nil)} {
		var got bytes.Buffer
		if err := Vmlinux(&got, bzImage(payload)); err != nil || got.String() != kernelText {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
	}
	whole := bzImage(packed)
	noELF := bzImage(z.EncodeAll([]byte("text"), nil))
	for name, bad := range map[string][]byte{"empty": nil, "short": whole[:100], "cut": whole[:len(whole)-8], "text": noELF,
		"unknown": bzImage([]byte("LZMA?...."))} {
		if err := Vmlinux(io.Discard, bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := Vmlinux(io.Discard, make([]byte, 4096)); !errors.Is(err, errNotBzImage) {
		t.Errorf("zeros: %v", err)
	}
}

func FuzzVmlinux(f *testing.F) {
	packed, err := hex.DecodeString(xzKernel)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bzImage(packed))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got bytes.Buffer
		if err := Vmlinux(&limited{&got, 1 << 20}, b); err == nil && !strings.HasPrefix(got.String(), "\x7fELF") {
			t.Errorf("unpacked %q", got.String())
		}
	})
}

// limited refuses to take more than so many bytes: what is packed tightly may be very large.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, io.ErrShortWrite
	}
	return l.w.Write(p)
}

// bzImage wraps a payload as the boot protocol does: one sector and one of setup, then the payload and its size.
func bzImage(payload []byte) []byte {
	b := make([]byte, 1024, 2048)
	b[0x1f1] = 1
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint32(b[0x248:], 16)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)+4))
	b = append(b, make([]byte, 16)...)
	return append(append(b, payload...), 0, 0, 0, 0)
}

func TestModuleSet(t *testing.T) {
	info := parseModinfo([]byte("license=GPL\x00depends=stp,xen-evtchn,built_in\x00alias=virtio:d00000001v*\x00alias=x\x00\x00"))
	if want := (moduleInfo{[]string{"stp", "xen_evtchn", "built_in"}, []string{"virtio:d00000001v*", "x"}}); !reflect.DeepEqual(info, want) {
		t.Errorf("read %+v", info)
	}
	m := moduleSet{builtin: map[string]bool{"built_in": true},
		paths: map[string]string{"bridge": "b.ko", "stp": "s.ko", "llc": "l.ko"},
		infos: map[string]moduleInfo{"bridge": {depends: []string{"stp", "llc", "built_in"}}, "stp": {depends: []string{"llc"}},
			"llc": {aliases: []string{"p*"}}}}
	if got, want := string(m.dep()), "b.ko: s.ko l.ko\nl.ko:\ns.ko: l.ko\n"; got != want {
		t.Errorf("modules.dep is %q, want %q", got, want)
	}
	if got, want := string(m.alias()), "alias p* llc\n"; got != want {
		t.Errorf("modules.alias is %q, want %q", got, want)
	}
	if err := m.add("none"); err == nil {
		t.Error("a module that is not there was added")
	}
	if err := m.add("built-in"); err != nil {
		t.Error(err)
	}
}

func TestBaseRecords(t *testing.T) {
	seen := map[string]bool{".": true}
	for _, r := range baseRecords() {
		if seen[r.Name] {
			t.Errorf("%s is there twice", r.Name)
		}
		if !seen[path.Dir(r.Name)] {
			t.Errorf("%s comes before its directory", r.Name)
		}
		seen[r.Name] = true
	}
	for _, need := range []string{"dev/console", "var/run", "etc/xen/xl.conf", "etc/xen/scripts/ce-hotplug", "etc/cloudengine"} {
		if !seen[need] {
			t.Errorf("%s is missing", need)
		}
	}
}

func TestPackProgramIsDeterministic(t *testing.T) {
	src := filepath.Join(t.TempDir(), "p")
	mustFile(t, src, []byte("program"))
	first, err := packProgram(src, AgentPath)
	if err != nil {
		t.Fatal(err)
	}
	second, err := packProgram(src, AgentPath)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("the same program is packed in two ways, %v", err)
	}
	z, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain)))
	if err != nil || len(records) != 1 || records[0].Name != "bin/noded" || records[0].Mode != cpio.S_IFREG|0o755 {
		t.Errorf("archive holds %v, %v", records, err)
	}
}

func TestPublish(t *testing.T) {
	out := t.TempDir()
	var versions []string
	for _, body := range []string{"one", "two", "one"} {
		stage := filepath.Join(t.TempDir(), "stage")
		for _, n := range []string{bootimage.XenFile, bootimage.KernelFile, bootimage.InitrdFile} {
			mustFile(t, filepath.Join(stage, n), []byte(body+n))
		}
		var m bootimage.Manifest
		if err := publish(stage, out, &m); err != nil {
			t.Fatal(err)
		}
		got, err := bootimage.ReadManifest(filepath.Join(out, bootimage.CurrentLink))
		if err != nil || got.Version != m.Version || len(got.Parts) != 3 {
			t.Fatalf("current is %+v, %v; want %s", got, err, m.Version)
		}
		versions = append(versions, m.Version)
	}
	if versions[0] == versions[1] || versions[0] != versions[2] {
		t.Errorf("versions of one, two, one: %v", versions)
	}
	prune(out, strings.Repeat("[0-9a-f]", 16), 1)
	if _, err := bootimage.ReadManifest(filepath.Join(out, bootimage.CurrentLink)); err != nil {
		t.Errorf("pruning took the current image: %v", err)
	}
	if _, err := os.Stat(filepath.Join(out, versions[1])); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the older image is still there: %v", err)
	}
}

func TestGuestInitramfs(t *testing.T) {
	program := filepath.Join(t.TempDir(), "guest")
	mustFile(t, program, []byte("program"))
	driver := filepath.Join(t.TempDir(), "driver")
	mustFile(t, driver, []byte("driver"))
	img, err := guestInitramfs(program, []string{driver})
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	if want := []string{"dev", "proc", "sys", "sbin", "dev/console", "init", "sbin/poweroff", "sbin/reboot", "driver"}; !reflect.DeepEqual(names, want) {
		t.Errorf("archive holds %v", names)
	}
}

// TestListsNameNothingTwice: union would let one list hide what another says.
func TestListsNameNothingTwice(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range kernelModules {
		if name = moduleName(name); seen[name] {
			t.Errorf("kernel module %s is listed twice", name)
		}
		seen[name] = true
	}
	joined := union(map[string]int{"a": 1}, map[string]int{"b": 2})
	if len(joined) != 2 || joined["a"] != 1 || joined["b"] != 2 {
		t.Errorf("joined %v", joined)
	}
	for pkg := range storagePrograms {
		if programs[pkg] == nil {
			t.Errorf("the programs of %s are missing", pkg)
		}
	}
	for _, dir := range []string{"var/target/pr", "etc/iscsi", "usr/bin"} {
		if directories[dir] == 0 {
			t.Errorf("directory %s is missing", dir)
		}
	}
	for _, file := range []string{"etc/lvm/lvm.conf", "etc/mdadm/mdadm.conf", "etc/passwd"} {
		if texts[file] == "" {
			t.Errorf("%s is missing", file)
		}
	}
}
