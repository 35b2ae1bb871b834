package netboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"cloudengine/bootimage"
)

// BootConfig is boot.json: what the agent on a machine is told about itself.
type BootConfig struct {
	Machine string    `json:"machine"`
	Name    string    `json:"name"`
	Token   string    `json:"token"`
	Bus     []string  `json:"bus"`
	CA      string    `json:"ca,omitempty"` // PEM; which buses to believe
	HTTP    string    `json:"http"`
	Image   string    `json:"image"`
	Time    time.Time `json:"time"` // when it was served
	Roles   []string  `json:"roles"`
	Holding string    `json:"holding,omitempty"` // MAC of a machine that is not known: it is to wait, and has neither token nor bus
}

var (
	imageVersion = regexp.MustCompile(`^[0-9a-f]{16}$`)
	blobName     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Handler serves what machines fetch by HTTP:
//
//	GET /ipxe/<mac>                  the iPXE script of a machine
//	GET /image/<version>/xen|vmlinuz parts of an image
//	GET /boot/<mac>/initrd.img       its initramfs with boot.json and a fresh one-time token; ?image=<version>
//	GET /blob/<sha256>               a file of the blob directory
//	GET /hold/<mac>                  whether a held machine was made known meanwhile
//	GET /time                        our time, RFC 3339 with nanoseconds, one line
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ipxe/{mac}", s.serveScript)
	mux.HandleFunc("GET /image/{version}/{file}", s.serveImage)
	mux.HandleFunc("GET /boot/{mac}/initrd.img", s.serveInitrd)
	mux.HandleFunc("GET /blob/{sum}", s.serveBlob)
	mux.HandleFunc("GET /hold/{mac}", s.serveHold)
	mux.HandleFunc("GET /time", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, s.opt.Now().UTC().Format(time.RFC3339Nano))
	})
	return mux
}

// A machine that cannot boot now stays in iPXE and asks again: what it lacks may come (it is made known, the image is
// built), and nobody needs to walk to it.
// roleHost is the role of machines that run domains, and so boot the hypervisor.
const roleHost = "host"

const (
	scriptStart = "#!ipxe\n"
	scriptRetry = `:retry
echo CloudEngine: trying again in 10 seconds
sleep 10
chain --replace %[1]s/ipxe/%[2]s || goto retry
`
	scriptBoot = `echo CloudEngine: %[3]s boots image %[4]s
imgfree
kernel %[1]s/image/%[4]s/xen %[5]s || goto retry
module %[1]s/image/%[4]s/vmlinuz %[6]s ce.nic=%[2]s || goto retry
module %[1]s/boot/%[2]s/initrd.img?image=%[4]s || goto retry
boot || goto retry
`
	// A word after the URL of an initrd would make iPXE wrap it into an archive, as one file of that name.
	scriptPlain = `echo CloudEngine: %[3]s boots image %[4]s without a hypervisor
imgfree
kernel %[1]s/image/%[4]s/vmlinuz %[5]s ce.nic=%[2]s || goto retry
initrd %[1]s/boot/%[2]s/initrd.img?image=%[4]s || goto retry
boot || goto retry
`
)

func (s *Service) serveScript(w http.ResponseWriter, r *http.Request) {
	mac, err := parseMAC(r.PathValue("mac"))
	if err != nil {
		http.Error(w, "no such machine", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	m, _, ok := s.lookup(mac)
	if !ok {
		s.tellUnknown(mac, "") // another DHCP server gave it its address, or it was removed while it waited
		// 200, or iPXE would not run it.
		fmt.Fprintf(w, scriptStart+"echo CloudEngine: machine %[2]s is not known here\n"+scriptRetry, s.opt.HTTP, mac)
		return
	}
	if m.Holding && s.holdingScript(w, r, mac) {
		return
	}
	_, image, err := s.findImage(m.Image)
	if err != nil {
		s.opt.Log.Error("find boot image", "machine", m.ID, "image", m.Image, "error", err)
		fmt.Fprintf(w, scriptStart+"echo CloudEngine: no boot image for this machine\n"+scriptRetry, s.opt.HTTP, mac)
		return
	}
	if !m.Holding && !slices.Contains(m.Roles, roleHost) {
		fmt.Fprintf(w, scriptStart+scriptPlain+scriptRetry, s.opt.HTTP, mac, printable(m.Name), image.Version, s.opt.LinuxArgs)
		return
	}
	fmt.Fprintf(w, scriptStart+scriptBoot+scriptRetry,
		s.opt.HTTP, mac, printable(m.Name), image.Version, s.opt.XenArgs, s.opt.Dom0Args)
}

// findImage returns the directory and manifest of an image. The version is the asker's word: it must look like one, so
// it cannot lead out of the directory.
func (s *Service) findImage(version string) (string, bootimage.Manifest, error) {
	if s.opt.ImageDir == "" && version == "" {
		return "", bootimage.Manifest{}, errors.New("no image directory is configured")
	}
	if version != "" && !imageVersion.MatchString(version) {
		return "", bootimage.Manifest{}, fmt.Errorf("image version %.40q: %w", version, os.ErrNotExist)
	}
	var dirs []string
	if s.opt.ImageDir != "" {
		dirs = append(dirs, s.opt.ImageDir, filepath.Join(s.opt.ImageDir, bootimage.CurrentLink))
	}
	if version != "" {
		dirs = append(dirs, filepath.Join(s.opt.ImageDir, version), filepath.Join(s.opt.DataDir, imagesDir, version))
	}
	failed := fmt.Errorf("image %q in %s: %w", version, s.opt.ImageDir, os.ErrNotExist)
	for _, dir := range dirs {
		real, err := filepath.EvalSymlinks(dir) // one image for the whole request, even if the link changes
		if err != nil {
			continue
		}
		m, err := bootimage.ReadManifest(real)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			failed = err // another place may have it whole
			continue
		}
		if version == "" || m.Version == version {
			return real, m, nil
		}
	}
	return "", bootimage.Manifest{}, failed
}

func (s *Service) serveImage(w http.ResponseWriter, r *http.Request) {
	file := r.PathValue("file")
	dir, _, err := s.findImage(r.PathValue("version"))
	if err != nil || (file != bootimage.XenFile && file != bootimage.KernelFile) {
		http.Error(w, "no such image file", http.StatusNotFound)
		return
	}
	s.serveFile(w, r, filepath.Join(dir, file))
}

func (s *Service) serveBlob(w http.ResponseWriter, r *http.Request) {
	sum := r.PathValue("sum")
	if s.opt.BlobDir == "" || !blobName.MatchString(sum) {
		http.Error(w, "no such blob", http.StatusNotFound)
		return
	}
	s.serveFile(w, r, filepath.Join(s.opt.BlobDir, sum))
}

func (s *Service) serveFile(w http.ResponseWriter, r *http.Request, path string) {
	f, err := os.Open(path)
	if err != nil {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", st.ModTime(), f)
}

func (s *Service) serveInitrd(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		http.Error(w, "only GET: each answer is made once", http.StatusMethodNotAllowed)
		return
	}
	mac, err := parseMAC(r.PathValue("mac"))
	m, addr, ok := s.lookup(mac)
	if err != nil || !ok {
		http.Error(w, "no such machine", http.StatusNotFound)
		return
	}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); !s.opt.AnySource && (err != nil || from.Addr().Unmap() != addr) {
		s.opt.Log.Warn("boot files asked for by another address", "machine", m.ID, "from", r.RemoteAddr, "want", addr)
		http.Error(w, "these files are for another address", http.StatusForbidden)
		return
	}
	version := r.URL.Query().Get("image")
	if version == "" {
		version = m.Image
	}
	dir, image, err := s.findImage(version)
	if err != nil {
		s.opt.Log.Error("find boot image", "machine", m.ID, "image", version, "error", err)
		http.Error(w, "no such image", http.StatusNotFound)
		return
	}
	if !s.mayServe(m.ID) {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many boots", http.StatusTooManyRequests)
		return
	}
	send := s.sendInitrd
	if m.Holding {
		send = s.sendHolding
	}
	if err := send(w, m, mac, filepath.Join(dir, bootimage.InitrdFile), image.Version); err != nil {
		s.opt.Log.Error("serve initramfs", "machine", m.ID, "error", err)
	}
}

// sendInitrd stores the report before it sends a byte of the token, so that no machine can hold a token that we do not
// know we gave.
func (s *Service) sendInitrd(w http.ResponseWriter, m Machine, mac, path, version string) error {
	fail := func(err error) error {
		http.Error(w, "the boot files cannot be served now", http.StatusServiceUnavailable)
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fail(fmt.Errorf("open initramfs: %w", err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fail(fmt.Errorf("look at initramfs: %w", err))
	}
	token, sum := newToken()
	now := s.opt.Now().UTC()
	config, err := json.Marshal(BootConfig{
		Machine: m.ID, Name: m.Name, Token: token, Bus: s.opt.Bus, CA: s.opt.CA, HTTP: s.opt.HTTP, Image: version, Time: now, Roles: m.Roles,
	})
	if err != nil {
		return fail(fmt.Errorf("encode boot.json: %w", err))
	}
	body, size, err := bootimage.AppendFiles(f, st.Size(), bootimage.File{Path: bootimage.BootConfigPath, Data: config})
	if err != nil {
		return fail(err)
	}
	if err := s.queue.add(BootServed{Machine: m.ID, MAC: mac, TokenSHA256: sum, Image: version, Time: now}); err != nil {
		return fail(err)
	}
	return s.copyInitrd(w, body, size, m, mac, version)
}

func (s *Service) copyInitrd(w http.ResponseWriter, body io.Reader, size int64, m Machine, mac, version string) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(size))
	w.Header().Set("Cache-Control", "no-store")
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("send initramfs to %s: %w", mac, err)
	}
	s.opt.Log.Info("served boot", "machine", m.ID, "mac", mac, "image", version)
	return nil
}

// printable keeps what is safe in a line of a script or a log: letters, digits and a few marks.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(".:_-", r):
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), 64)]
}
