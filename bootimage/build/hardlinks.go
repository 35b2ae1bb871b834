package build

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// apart gives the path of a file that shares its bytes with no other name: itself, or a copy in work. u-root writes the bytes of a file with
// several names once and then makes all inode numbers its own, so the other names would be empty files in the image.
func apart(path, work string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return path, nil
	}
	dir, err := os.MkdirTemp(work, "apart-")
	if err != nil {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	in, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	defer in.Close()
	to := filepath.Join(dir, filepath.Base(path))
	if err := writeFrom(to, in); err != nil {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	if err := os.Chmod(to, info.Mode().Perm()); err != nil {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	return to, nil
}
