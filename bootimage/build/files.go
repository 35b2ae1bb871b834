package build

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"cloudengine/bootimage"
)

// partOf measures one file of the image.
func partOf(path string) (bootimage.Part, error) {
	info, err := os.Stat(path)
	if err != nil {
		return bootimage.Part{}, fmt.Errorf("measure part: %w", err)
	}
	sum, err := fileSum(path)
	if err != nil {
		return bootimage.Part{}, fmt.Errorf("measure part: %w", err)
	}
	return bootimage.Part{Name: filepath.Base(path), Size: info.Size(), SHA256: sum}, nil
}

// packagesOf returns the packages that the files come from, each once, by name.
func packagesOf(files []imageFile) []bootimage.Package {
	seen := map[string]bootimage.Package{}
	for _, f := range files {
		if f.from != nil {
			seen[f.from.Name] = f.from.Package
		}
	}
	var out []bootimage.Package
	for _, n := range sortedKeys(seen) {
		out = append(out, seen[n])
	}
	return out
}

// writeFrom writes all of r into a new file.
func writeFrom(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// link lets path point to target, replacing an older link in one step.
func link(target, path string) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("link current image: %w", err)
	}
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("link current image: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("link current image: %w", err)
	}
	return nil
}

// prune removes all but the newest files that match; what cannot be removed stays.
func prune(dir, pattern string, keep int) {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) <= keep {
		return
	}
	age := func(p string) int64 {
		info, err := os.Stat(p)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	sort.Slice(found, func(i, j int) bool { return age(found[i]) > age(found[j]) })
	for _, p := range found[keep:] {
		_ = os.RemoveAll(p)
	}
}
