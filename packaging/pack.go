package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tarball writes the parts below a directory, in the order of their names, owned by root.
func (r *release) tarball(to, dir string, parts []part) error {
	f, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("make tarball: %w", err)
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.tar, b.tar) })
	for _, p := range parts {
		if p.tar != "" {
			err = errors.Join(err, r.add(w, path.Join(dir, p.tar), p))
		}
	}
	if err = errors.Join(err, w.Close(), z.Close(), f.Close()); err != nil {
		return fmt.Errorf("write tarball: %w", err)
	}
	return nil
}

func (r *release) add(w *tar.Writer, name string, p part) error {
	body, err := p.content()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(p.mode), Size: int64(len(body)), ModTime: r.time, Uname: "root", Gname: "root", Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// debian lays the package out and has dpkg-deb pack it.
func (r *release) debian(ctx context.Context, tmp, to string, parts []part) error {
	tree := filepath.Join(tmp, "deb")
	parts = slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p.deb == "" })
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.deb, b.deb) })
	var bytesInAll int
	var digests bytes.Buffer
	for _, p := range parts {
		body, err := p.content()
		if err != nil {
			return fmt.Errorf("read part of the package: %w", err)
		}
		bytesInAll += len(body)
		if err := lay(tree, p.deb, body, p); err != nil {
			return err
		}
	}
	control, err := r.control(parts, (bytesInAll+1023)/1024, &digests)
	if err != nil {
		return err
	}
	for _, p := range control {
		if err := lay(tree, p.deb, p.body, p); err != nil {
			return err
		}
	}
	if _, err := r.run(ctx, "dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, to); err != nil {
		return fmt.Errorf("make Debian package: %w", err)
	}
	return nil
}

// control gives the files that tell dpkg about the package.
func (r *release) control(parts []part, kib int, digests *bytes.Buffer) ([]part, error) {
	var conffiles bytes.Buffer
	for _, p := range parts {
		body, err := p.content()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(digests, "%s  %s\n", md5Of(body), p.deb)
		if strings.HasPrefix(p.deb, "etc/") {
			fmt.Fprintf(&conffiles, "/%s\n", p.deb)
		}
	}
	out := []part{
		{deb: "DEBIAN/conffiles", body: conffiles.Bytes(), mode: 0o644},
		{deb: "DEBIAN/md5sums", body: digests.Bytes(), mode: 0o644},
	}
	for _, name := range []string{"control", "postinst", "prerm", "postrm"} {
		body, err := fill(name, map[string]any{"Version": r.version, "Arch": r.arch, "KiB": kib})
		if err != nil {
			return nil, err
		}
		mode := os.FileMode(0o755)
		if name == "control" {
			mode = 0o644
		}
		out = append(out, part{deb: "DEBIAN/" + name, body: body, mode: mode})
	}
	return out, nil
}

// lay writes one file below a tree, with directories that all may read whatever the umask is.
func lay(tree, name string, body []byte, p part) error {
	to := filepath.Join(tree, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("lay out package: %w", err)
	}
	for dir := filepath.Dir(to); len(dir) >= len(tree); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return fmt.Errorf("lay out package: %w", err)
		}
	}
	if err := errors.Join(os.WriteFile(to, body, p.mode), os.Chmod(to, p.mode)); err != nil {
		return fmt.Errorf("lay out package: %w", err)
	}
	return nil
}

// sums writes SHA256SUMS over all files of a directory.
func sums(dir string) error {
	list, err := os.ReadDir(dir) // sorted
	if err != nil {
		return fmt.Errorf("list release: %w", err)
	}
	var out bytes.Buffer
	for _, f := range list {
		body, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return fmt.Errorf("read release: %w", err)
		}
		fmt.Fprintf(&out, "%x  %s\n", sha256.Sum256(body), f.Name())
	}
	if err := os.WriteFile(filepath.Join(dir, "SHA256SUMS"), out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write digests of the release: %w", err)
	}
	return nil
}

// md5Of is what dpkg compares installed files with; it protects nothing.
func md5Of(body []byte) string { return fmt.Sprintf("%x", md5.Sum(body)) }
