package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// rootfs holds the files that are ours, as they lie in the guest.
//
//go:embed all:rootfs
var rootfs embed.FS

// writeRootfs copies our files into a directory. Scripts can be executed.
func writeRootfs(dir string) error {
	return fs.WalkDir(rootfs, "rootfs", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dest := filepath.Join(dir, strings.TrimPrefix(path, "rootfs"))
		if d.IsDir() {
			return os.MkdirAll(dest, 0o755)
		}
		body, err := rootfs.ReadFile(path)
		if err != nil {
			return fmt.Errorf("copy our files: %w", err)
		}
		mode := os.FileMode(0o644)
		if bytes.HasPrefix(body, []byte("#!")) {
			mode = 0o755
		}
		return errors.Join(os.WriteFile(dest, body, mode), os.Chmod(dest, mode))
	})
}

// unwanted is what was made or left by the installation and is not part of the image. Host keys and the machine's id are each guest's own;
// what dpkg was told to leave out came with the packages that it did not install itself.
var unwanted = []string{
	"var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*", "var/cache/debconf/*-old", "var/lib/dpkg/*-old", "etc/ssh/ssh_host_*",
	"var/lib/dbus/machine-id", "etc/resolv.conf", "boot/*.old", "boot/*.dpkg-bak", "tmp/*", "var/tmp/*", "run/*",
	"usr/share/info/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/lintian/*", "usr/share/bug/*",
	// no timer works on disks or the network by itself
	"etc/systemd/system/timers.target.wants/*", "etc/systemd/system/multi-user.target.wants/e2scrub_reap.service",
}

// added are small files that the installation would overwrite or that packages have.
var added = map[string]string{"etc/hostname": "debian\n", "etc/machine-id": ""}

// masked are units of systemd that do nothing for a guest but take time at each start: file systems for tracing and huge pages that are
// mounted when asked for, crash records of firmware, disks that repartition themselves, a login on a screen that there is not, and
// cloud-init's stage for modules of which none is chosen.
var masked = []string{
	"dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-pstore.service", "systemd-repart.service",
	"getty@tty1.service", "cloud-config.service",
}

// links of the tree: path and target.
func links() map[string]string {
	const units = "etc/systemd/system/"
	out := map[string]string{units + "graphical.target.wants/cloudengine-ready.service": "/" + units + "cloudengine-ready.service"}
	for _, unit := range masked {
		out[units+unit] = "/dev/null"
	}
	return out
}

// finish makes the tree what the image holds.
func (b *builder) finish() error {
	for _, pattern := range unwanted {
		found, err := filepath.Glob(filepath.Join(b.tree, pattern))
		if err != nil {
			return fmt.Errorf("clean the tree: %w", err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("clean the tree: %w", err)
			}
		}
	}
	if err := b.cleanDocs(); err != nil {
		return err
	}
	for path, text := range added {
		if err := os.WriteFile(filepath.Join(b.tree, path), []byte(text), 0o644); err != nil {
			return fmt.Errorf("finish the tree: %w", err)
		}
	}
	for path, target := range links() {
		at := filepath.Join(b.tree, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(target, at)); err != nil {
			return fmt.Errorf("finish the tree: %w", err)
		}
	}
	return nil
}

// cleanDocs leaves of the documentation what must be there: the copyrights.
func (b *builder) cleanDocs() error {
	found, err := filepath.Glob(filepath.Join(b.tree, "usr/share/doc/*/*"))
	if err != nil {
		return fmt.Errorf("clean the tree: %w", err)
	}
	for _, path := range found {
		if filepath.Base(path) == "copyright" {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("clean the tree: %w", err)
		}
	}
	return nil
}
