package netspace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Make makes a network namespace that has a name, as ip-netns(8) does: what holds it is a file. No error if it is there.
func Make(path string) error {
	if Is(path) {
		return nil
	}
	done := make(chan error, 1)
	go onOwnThread(func() { done <- makeHere(path) })
	if err := <-done; err != nil {
		return fmt.Errorf("make network namespace %s: %w", path, err)
	}
	return nil
}

// makeHere makes it of the thread's own, which it leaves for ever.
func makeHere(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), unix.Unshare(unix.CLONE_NEWNET)); err != nil {
		return err
	}
	return unix.Mount("/proc/thread-self/ns/net", path, "bind", unix.MS_BIND, "")
}

// Is says whether a file holds a namespace.
func Is(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Remove removes the name of a namespace; it ends when nobody uses it any more, with all devices that can end. No error if it is not there.
func Remove(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", path, err)
	}
	return nil
}
