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
	cache string            // directory of the .deb files and, below it, of what is unpacked
	pins  map[string]string // package → version; empty: what apt offers now
	say   func(format string, args ...any)
	debs  map[string]*deb
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
	found, err := s.resolve(ctx, names)
	if err != nil {
		return err
	}
	if err := s.fetch(ctx, found); err != nil {
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

// resolve asks apt which file each package is now, and its SHA-256.
func (s *store) resolve(ctx context.Context, names []string) ([]*deb, error) {
	args := []string{"download", "--print-uris", "-qq"}
	for _, n := range names {
		if v := s.pins[n]; v != "" {
			n += "=" + v
		}
		args = append(args, n)
	}
	// apt prints nothing for a file that is already in its working directory: ask from another one.
	out, err := run(ctx, filepath.Dir(s.cache), "apt-get", args...)
	if err != nil {
		return nil, fmt.Errorf("resolve packages (is the package list fresh? apt-get update): %w", err)
	}
	var debs []*deb
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
		return nil, fmt.Errorf("read apt's answer %q: want name_version_arch.deb and SHA256:", line)
	}
	version, err := url.PathUnescape(parts[1])
	if err != nil {
		return nil, fmt.Errorf("read apt's answer %q: %w", line, err)
	}
	return &deb{Package: bootimage.Package{Name: parts[0], Version: version, SHA256: sum}, file: fields[1]}, nil
}

// fetch downloads what is missing in the cache or does not match, and verifies it.
func (s *store) fetch(ctx context.Context, debs []*deb) error {
	args := []string{"download", "-qq", "-o", "APT::Sandbox::User=root"}
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
	if _, err := run(ctx, s.cache, "apt-get", args...); err != nil {
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
	out, err := run(ctx, s.cache, "apt-cache", "show", "--no-all-versions", meta)
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
