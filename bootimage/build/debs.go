package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"cloudengine/bootimage"
)

// deb is one Debian package: where it is in the cache and where it is unpacked.
type deb struct {
	bootimage.Package
	file string // name of the .deb in the cache
	root string // directory it is unpacked into; empty until store.add
}

// store fetches and unpacks Debian packages. Not safe for concurrent use.
type store struct {
	cache string                       // directory of the .deb files and, below it, of what is unpacked
	pins  map[string]bootimage.Package // versions to take again; empty: what apt offers now
	say   func(format string, args ...any)
	debs  map[string]*deb
	lists string // directory of package lists of our own; empty: the machine's
}

// add makes the named packages available: resolved, fetched, verified, unpacked. Known ones are left alone.
func (s *store) add(ctx context.Context, names ...string) ([]*deb, error) {
	var wanted []string
	for _, n := range names {
		if s.debs[n] == nil {
			wanted = append(wanted, n)
		}
	}
	if len(wanted) > 0 {
		if err := s.load(ctx, wanted); err != nil {
			return nil, err
		}
	}
	var out []*deb
	for _, n := range names {
		out = append(out, s.debs[n])
	}
	return out, nil
}

func (s *store) load(ctx context.Context, names []string) error {
	sort.Strings(names)
	found, err := s.locate(ctx, names)
	if err != nil && s.lists == "" && ctx.Err() == nil {
		s.say("fetching fresh package lists (%v)", err)
		if err := s.freshLists(ctx); err != nil {
			return err
		}
		found, err = s.locate(ctx, names)
	}
	if err != nil {
		return err
	}
	for _, d := range found {
		if err := s.unpack(ctx, d); err != nil {
			return err
		}
		s.debs[d.Name] = d
	}
	for _, n := range names {
		if s.debs[n] == nil {
			return fmt.Errorf("resolve package %s: apt offers nothing of that name", n)
		}
	}
	return nil
}

// locate finds out which file each package is, and brings it into the cache.
func (s *store) locate(ctx context.Context, names []string) ([]*deb, error) {
	found, err := s.resolve(ctx, names)
	if err != nil {
		return nil, err
	}
	return found, s.fetch(ctx, found)
}

// freshLists makes package lists of our own: the machine's are missing or older than the archive. It needs no root and
// leaves the machine's alone.
func (s *store) freshLists(ctx context.Context) error {
	s.lists = filepath.Join(filepath.Dir(s.cache), "apt")
	for _, dir := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(s.lists, dir), 0o755); err != nil {
			return fmt.Errorf("fetch package lists: %w", err)
		}
	}
	if _, err := s.apt(ctx, s.cache, "apt-get", "update", "-qq"); err != nil {
		return fmt.Errorf("fetch package lists: %w", err)
	}
	return nil
}

// apt runs one of apt's programs in dir, over the lists in use.
func (s *store) apt(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	args = append(args, "-o", "APT::Sandbox::User=root")
	if s.lists != "" {
		args = append(args, "-o", "Dir::State::lists="+filepath.Join(s.lists, "lists"), "-o", "Dir::Cache="+s.lists)
	}
	return run(ctx, dir, program, args...)
}

// resolve asks apt which file each package is now, and its SHA-256; a pinned one that is in the cache is not asked for.
func (s *store) resolve(ctx context.Context, names []string) ([]*deb, error) {
	args := []string{"download", "--print-uris", "-qq"}
	var debs []*deb
	var ask []string
	for _, n := range names {
		pin, pinned := s.pins[n]
		if d := s.cached(pin); d != nil {
			debs = append(debs, d)
			continue
		}
		if pinned {
			n += "=" + pin.Version
		}
		ask = append(ask, n)
	}
	if len(ask) == 0 {
		return debs, nil
	}
	// apt prints nothing for a file that is already in its working directory: ask from another one.
	out, err := s.apt(ctx, filepath.Dir(s.cache), "apt-get", append(args, ask...)...)
	if err != nil {
		return nil, fmt.Errorf("resolve packages: %w", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		d, err := parseURI(line)
		if err != nil {
			return nil, err
		}
		debs = append(debs, d)
	}
	return debs, nil
}

// parseURI reads a line of apt-get download --print-uris: 'URI' name_version_arch.deb size SHA256:hex.
func parseURI(line string) (*deb, error) {
	fields := strings.Fields(line)
	if len(fields) != 4 {
		return nil, fmt.Errorf("read apt's answer %q: want 4 fields", line)
	}
	parts := strings.Split(strings.TrimSuffix(fields[1], ".deb"), "_")
	sum, isSum := strings.CutPrefix(fields[3], "SHA256:")
	if len(parts) != 3 || !isSum {
		return nil, fmt.Errorf("read apt's answer %q: want name_version_arch.deb and a SHA256 sum", line)
	}
	version, err := url.PathUnescape(parts[1])
	if err != nil {
		return nil, fmt.Errorf("read apt's answer %q: %w", line, err)
	}
	return &deb{Package: bootimage.Package{Name: parts[0], Version: version, SHA256: sum}, file: fields[1]}, nil
}

// cached returns the pinned package if its very file is in the cache, else nil.
func (s *store) cached(pin bootimage.Package) *deb {
	if pin.Name == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(s.cache, pin.Name+"_*.deb"))
	if err != nil {
		return nil
	}
	for _, f := range files {
		if sum, err := fileSum(f); err == nil && sum == pin.SHA256 {
			return &deb{Package: pin, file: filepath.Base(f)}
		}
	}
	return nil
}

// fetch downloads what is missing in the cache or does not match, and verifies it.
func (s *store) fetch(ctx context.Context, debs []*deb) error {
	args := []string{"download", "-qq"}
	var missing []*deb
	for _, d := range debs {
		if sum, err := fileSum(filepath.Join(s.cache, d.file)); err == nil && sum == d.SHA256 {
			continue
		}
		missing = append(missing, d)
		args = append(args, d.Name+"="+d.Version)
	}
	if len(missing) == 0 {
		return nil
	}
	s.say("fetching %d Debian packages", len(missing))
	if _, err := s.apt(ctx, s.cache, "apt-get", args...); err != nil {
		return fmt.Errorf("fetch packages: %w", err)
	}
	for _, d := range missing {
		sum, err := fileSum(filepath.Join(s.cache, d.file))
		if err != nil {
			return fmt.Errorf("verify package %s: %w", d.Name, err)
		}
		if sum != d.SHA256 {
			return fmt.Errorf("verify package %s: SHA-256 is %s, want %s", d.Name, sum, d.SHA256)
		}
	}
	return nil
}

// unpack extracts the package into a directory named after its digest, once.
func (s *store) unpack(ctx context.Context, d *deb) error {
	d.root = filepath.Join(s.cache, "unpacked", d.Name+"-"+d.SHA256[:16])
	if _, err := os.Stat(d.root); err == nil {
		return nil
	}
	tmp := d.root + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("unpack %s: %w", d.Name, err)
	}
	if err := os.MkdirAll(filepath.Dir(tmp), 0o755); err != nil {
		return fmt.Errorf("unpack %s: %w", d.Name, err)
	}
	if _, err := run(ctx, s.cache, "dpkg-deb", "-x", filepath.Join(s.cache, d.file), tmp); err != nil {
		return fmt.Errorf("unpack %s: %w", d.Name, err)
	}
	if err := os.Rename(tmp, d.root); err != nil {
		return fmt.Errorf("unpack %s: %w", d.Name, err)
	}
	return nil
}

// depends returns the names of the packages that d depends on directly; of alternatives the first.
func (s *store) depends(ctx context.Context, d *deb) ([]string, error) {
	out, err := run(ctx, s.cache, "dpkg-deb", "-f", filepath.Join(s.cache, d.file), "Depends")
	if err != nil {
		return nil, fmt.Errorf("read dependencies of %s: %w", d.Name, err)
	}
	return parseDepends(string(out)), nil
}

// parseDepends reads a Depends field (Debian Policy 7.1) and returns the first name of each alternative.
func parseDepends(field string) []string {
	var names []string
	for _, part := range strings.Split(field, ",") {
		first, _, _ := strings.Cut(part, "|")
		name := strings.FieldsFunc(first, func(r rune) bool { return strings.ContainsRune(" \t\n(:[", r) })
		if len(name) > 0 {
			names = append(names, name[0])
		}
	}
	return names
}

// kernelPackage returns the package that the newest kernel of the metapackage is in.
func (s *store) kernelPackage(ctx context.Context, meta string) (string, error) {
	for name := range s.pins {
		if strings.HasPrefix(name, "linux-image-") {
			return name, nil
		}
	}
	out, err := s.apt(ctx, s.cache, "apt-cache", "show", "--no-all-versions", meta)
	if err != nil && s.lists == "" && ctx.Err() == nil {
		s.say("fetching fresh package lists (%v)", err)
		if err := s.freshLists(ctx); err != nil {
			return "", err
		}
		out, err = s.apt(ctx, s.cache, "apt-cache", "show", "--no-all-versions", meta)
	}
	if err != nil {
		return "", fmt.Errorf("resolve kernel: %w", err)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if field, ok := strings.CutPrefix(line, "Depends:"); ok {
			for _, n := range parseDepends(field) {
				if strings.HasPrefix(n, "linux-image-") {
					return n, nil
				}
			}
		}
	}
	return "", fmt.Errorf("resolve kernel: %s depends on no linux-image package", meta)
}

// run starts a program in dir and returns what it printed; its error holds the end of what it complained about.
func run(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		text := strings.TrimSpace(complaint.String())
		if len(text) > 2000 {
			text = text[len(text)-2000:]
		}
		return nil, fmt.Errorf("run %s: %w: %s", name, err, text)
	}
	return out, nil
}

// fileSum returns the SHA-256 of a file in hexadecimal.
func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
