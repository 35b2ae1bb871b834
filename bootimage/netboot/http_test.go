package netboot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"cloudengine/bootimage"
)

// get asks as the machine with that address.
func get(s *Service, from, method, target string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = from + ":40000"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestScript(t *testing.T) {
	s := newService(t, nil)
	version := mustVersion(t, s.opt.ImageDir)
	got := body(t, get(s, "10.77.0.11", "GET", "/ipxe/"+macOne))
	want := `#!ipxe
echo CloudEngine: host1 boots image VERSION
imgfree
kernel http://10.77.0.1:8080/image/VERSION/xen console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M sched=credit || goto retry
module http://10.77.0.1:8080/image/VERSION/vmlinuz console=hvc0 quiet rdinit=/init net.ifnames=0 random.trust_cpu=on panic=3 ce.nic=52:54:00:77:00:01 || goto retry
module http://10.77.0.1:8080/boot/52:54:00:77:00:01/initrd.img?image=VERSION || goto retry
boot || goto retry
:retry
echo CloudEngine: trying again in 10 seconds
sleep 10
chain --replace http://10.77.0.1:8080/ipxe/52:54:00:77:00:01 || goto retry
`
	if got != strings.ReplaceAll(want, "VERSION", version) {
		t.Errorf("script:\n%s", got)
	}
	for _, mac := range []string{macUnknown} {
		got := body(t, get(s, "10.77.0.99", "GET", "/ipxe/"+mac))
		if !strings.Contains(got, "is not known") || strings.Contains(got, "kernel") {
			t.Errorf("script of an unknown machine:\n%s", got)
		}
	}
}

func TestNameCannotBreakTheScript(t *testing.T) {
	s := newService(t, nil)
	if err := s.SetMachines([]Machine{{ID: "x", Name: "a\nkernel http://evil/ ${net0/mac}", MACs: []string{macOne}}}); err != nil {
		t.Fatal(err)
	}
	if got := body(t, get(s, "10.77.0.11", "GET", "/ipxe/"+macOne)); strings.Contains(got, "evil/") || strings.Contains(got, "${") {
		t.Errorf("script:\n%s", got)
	}
}

func TestInitrdHoldsBootConfig(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newService(t, func(o *Options) { o.Now = func() time.Time { return now } })
	first, second := mustBootConfig(t, s), mustBootConfig(t, s)
	if first.Token == second.Token || len(first.Token) != 43 {
		t.Errorf("tokens %q and %q: want two of 43 characters", first.Token, second.Token)
	}
	first.Token = ""
	want := BootConfig{Machine: "id-1", Name: "host1", Bus: s.opt.Bus, HTTP: s.opt.HTTP,
		Image: mustVersion(t, s.opt.ImageDir), Time: now, Roles: []string{"host"}}
	if string(mustJSON(t, first)) != string(mustJSON(t, want)) {
		t.Errorf("boot.json %+v, want %+v", first, want)
	}
	checkQueue(t, s, second.Token)
}

func mustBootConfig(t *testing.T, s *Service) BootConfig {
	t.Helper()
	r := get(s, "10.77.0.11", "GET", "/boot/"+macOne+"/initrd.img?image="+mustVersion(t, s.opt.ImageDir))
	raw := body(t, r)
	if r.StatusCode != http.StatusOK || r.ContentLength != int64(len(raw)) {
		t.Fatalf("status %d, length %d of %d", r.StatusCode, r.ContentLength, len(raw))
	}
	base := "initrd.img of one"
	if !strings.HasPrefix(raw, base) {
		t.Fatalf("the image's own part is not there: %.40q", raw)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader([]byte(raw)[(len(base)+3)/4*4:])))
	if err != nil {
		t.Fatal(err)
	}
	last := records[len(records)-1]
	if "/"+last.Name != bootimage.BootConfigPath || last.Mode&0o777 != 0o600 {
		t.Fatalf("last file is %s, mode %o", last.Name, last.Mode)
	}
	var c BootConfig
	if err := json.NewDecoder(io.NewSectionReader(last.ReaderAt, 0, int64(last.FileSize))).Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// checkQueue wants the last report to be about the token, and the token itself nowhere on disk.
func checkQueue(t *testing.T, s *Service, token string) {
	t.Helper()
	sum := sha256.Sum256([]byte(token))
	found := false
	err := filepath.WalkDir(s.opt.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if strings.Contains(string(raw), token) {
			t.Errorf("%s holds the token", path)
		}
		found = found || strings.Contains(string(raw), hex.EncodeToString(sum[:]))
		return err
	})
	if err != nil || !found {
		t.Errorf("no report about the token waits (%v)", err)
	}
}

func TestHTTPRefuses(t *testing.T) {
	s := newService(t, nil)
	version := mustVersion(t, s.opt.ImageDir)
	blob := strings.Repeat("ab", 32)
	for path, text := range map[string]string{
		filepath.Join(s.opt.BlobDir, blob): "blob", filepath.Join(s.opt.BlobDir, "secret"): "secret",
		filepath.Join(filepath.Dir(s.opt.BlobDir), "outside"): "secret",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	initrd := "/boot/" + macOne + "/initrd.img"
	cases := map[string]struct {
		from, method, target string
		want                 int
	}{
		"image":              {"10.77.0.11", "GET", "/image/" + version + "/xen", 200},
		"blob":               {"10.77.0.11", "GET", "/blob/" + blob, 200},
		"time":               {"10.77.0.11", "GET", "/time", 200},
		"other_address":      {"10.77.0.12", "GET", initrd, 403},
		"head":               {"10.77.0.11", "HEAD", initrd, 405},
		"post":               {"10.77.0.11", "POST", initrd, 405},
		"unknown_mac":        {"10.77.0.11", "GET", "/boot/" + macUnknown + "/initrd.img", 404},
		"odd_mac":            {"10.77.0.11", "GET", "/boot/%2e%2e%2fx/initrd.img", 404},
		"no_such_image":      {"10.77.0.11", "GET", initrd + "?image=0000000000000000", 404},
		"image_is_path":      {"10.77.0.11", "GET", initrd + "?image=../..", 404},
		"initrd_bare":        {"10.77.0.11", "GET", "/image/" + version + "/initrd.img", 404},
		"manifest":           {"10.77.0.11", "GET", "/image/" + version + "/manifest.json", 404},
		"traversal_version":  {"10.77.0.11", "GET", "/image/..%2f..%2f/xen", 404},
		"traversal_file":     {"10.77.0.11", "GET", "/image/" + version + "/..%2f..%2fetc%2fpasswd", 404},
		"blob_name":          {"10.77.0.11", "GET", "/blob/secret", 404},
		"blob_outside":       {"10.77.0.11", "GET", "/blob/..%2foutside", 404},
		"script_long_mac":    {"10.77.0.11", "GET", "/ipxe/" + strings.Repeat("52:", 400), 404},
		"blob_absent":        {"10.77.0.11", "GET", "/blob/" + strings.Repeat("cd", 32), 404},
		"directory_of_blobs": {"10.77.0.11", "GET", "/blob/", 404},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := get(s, c.from, c.method, c.target)
			if text := body(t, r); r.StatusCode != c.want || strings.Contains(text, "secret") {
				t.Errorf("status %d, want %d: %.60q", r.StatusCode, c.want, text)
			}
		})
	}
}

func TestBootLoopIsSlowed(t *testing.T) {
	now := time.Now()
	s := newService(t, func(o *Options) { o.Now = func() time.Time { return now } })
	var codes []int
	for range tokenBurst + 1 {
		codes = append(codes, get(s, "10.77.0.11", "GET", "/boot/"+macOne+"/initrd.img").StatusCode)
	}
	if codes[tokenBurst-1] != 200 || codes[tokenBurst] != 429 {
		t.Errorf("answers %v", codes)
	}
	if c := get(s, "10.77.0.12", "GET", "/boot/"+macTwo+"/initrd.img").StatusCode; c != 200 {
		t.Errorf("another machine gets %d", c)
	}
	now = now.Add(tokenEvery)
	if c := get(s, "10.77.0.11", "GET", "/boot/"+macOne+"/initrd.img").StatusCode; c != 200 {
		t.Errorf("later: %d", c)
	}
}

func TestImageOfAMachine(t *testing.T) {
	root := t.TempDir()
	var versions []string
	for _, name := range []string{"old", "new"} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		v := mustVersion(t, mustImage(t, dir, name))
		versions = append(versions, v)
		if err := os.Rename(dir, filepath.Join(root, v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(versions[1], filepath.Join(root, bootimage.CurrentLink)); err != nil {
		t.Fatal(err)
	}
	s := newService(t, func(o *Options) { o.ImageDir = root })
	machines := twoMachines()
	machines[0].Image = versions[0]
	if err := s.SetMachines(machines); err != nil {
		t.Fatal(err)
	}
	for mac, version := range map[string]string{macOne: versions[0], macTwo: versions[1]} {
		if got := body(t, get(s, "10.77.0.11", "GET", "/ipxe/"+mac)); !strings.Contains(got, "/image/"+version+"/xen") {
			t.Errorf("%s does not boot %s:\n%s", mac, version, got)
		}
	}
	machines[0].Image = "0123456789abcdef"
	if err := s.SetMachines(machines); err != nil {
		t.Fatal(err)
	}
	if got := body(t, get(s, "10.77.0.11", "GET", "/ipxe/"+macOne)); strings.Contains(got, "kernel") {
		t.Errorf("a machine whose image is missing boots another one:\n%s", got)
	}
}
