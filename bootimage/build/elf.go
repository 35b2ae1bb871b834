package build

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// imageFile is one file that goes into the initramfs.
type imageFile struct {
	src  string // on the build machine
	dest string // in the image, absolute
	from *deb   // nil for what we built
}

// Directories of a Debian package that hold shared libraries.
var libDirs = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64"}

// libDir is where all libraries go in the image: the dynamic loader looks there without any configuration.
const libDir = "/lib/x86_64-linux-gnu"

// needed returns the names of the shared libraries an ELF file asks for, and its interpreter if it has one.
func needed(path string) (libs []string, interp string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("read ELF %s: %w", path, err)
	}
	defer f.Close()
	libs, err = f.ImportedLibraries()
	if err != nil {
		return nil, "", fmt.Errorf("read ELF %s: %w", path, err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		body := make([]byte, p.Filesz)
		if _, err := p.ReadAt(body, 0); err != nil {
			return nil, "", fmt.Errorf("read ELF interpreter of %s: %w", path, err)
		}
		interp = strings.TrimRight(string(body), "\x00")
	}
	return libs, interp, nil
}

// findLib looks for a library in an unpacked package and returns the real file, links followed within the package.
func findLib(root, soname string) (string, error) {
	for _, dir := range libDirs {
		p := filepath.Join(root, dir, soname)
		real, err := filepath.EvalSymlinks(p)
		if err == nil {
			return real, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("find library %s: %w", soname, err)
		}
	}
	return "", os.ErrNotExist
}

// closure adds to files every shared library that they need, from the packages that their own packages depend on
// (Debian's dpkg-shlibdeps guarantees that these hold them). Extra names libraries that are only opened at run time,
// and where they come from.
func (s *store) closure(ctx context.Context, files []imageFile, extra map[string]*deb) ([]imageFile, error) {
	have := map[string]bool{}
	queue := append([]imageFile(nil), files...)
	for _, soname := range sortedKeys(extra) {
		src, err := findLib(extra[soname].root, soname)
		if err != nil {
			return nil, fmt.Errorf("find library %s in %s: %w", soname, extra[soname].Name, err)
		}
		lib := imageFile{src: src, dest: filepath.Join(libDir, soname), from: extra[soname]}
		have[soname] = true
		files, queue = append(files, lib), append(queue, lib)
	}
	for len(queue) > 0 {
		f := queue[0]
		queue = queue[1:]
		libs, interp, err := needed(f.src)
		if err != nil {
			return nil, err
		}
		if interp != "" {
			libs = append(libs, filepath.Base(interp))
		}
		for _, soname := range libs {
			if have[soname] {
				continue
			}
			have[soname] = true
			lib, err := s.library(ctx, f, soname)
			if err != nil {
				return nil, err
			}
			files, queue = append(files, lib), append(queue, lib)
		}
	}
	return files, nil
}

// library finds the library that f needs, in its own package or in one that it depends on.
func (s *store) library(ctx context.Context, f imageFile, soname string) (imageFile, error) {
	names, err := s.depends(ctx, f.from)
	if err != nil {
		return imageFile{}, err
	}
	var libs []string
	for _, n := range names {
		if strings.HasPrefix(n, "lib") || strings.HasPrefix(n, "zlib") {
			libs = append(libs, n)
		}
	}
	debs, err := s.add(ctx, libs...)
	if err != nil {
		return imageFile{}, err
	}
	for _, d := range append([]*deb{f.from}, debs...) {
		src, err := findLib(d.root, soname)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return imageFile{}, err
		}
		dest := filepath.Join(libDir, soname)
		if strings.HasPrefix(soname, "ld-linux") {
			dest = filepath.Join("/lib64", soname)
		}
		return imageFile{src: src, dest: dest, from: d}, nil
	}
	return imageFile{}, fmt.Errorf("find library %s for %s: neither %s nor its dependencies %v hold it",
		soname, f.dest, f.from.Name, libs)
}
