package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// packages are what the guest has besides Debian's essential ones and apt.
var packages = []string{
	"systemd-sysv", "udev", "dbus", // init, devices
	"cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs", // who it is; grow the partition and its file system
	"openssh-server", "sudo", "iproute2", "ifupdown", "isc-dhcp-client", // reachable
	"linux-image-cloud-amd64", "tiny-initramfs", "lz4", // kernel; lz4 unpacks it for a PV guest
}

// builder builds one image.
type builder struct {
	options
	tree  string // directory of the root file system
	began time.Time
	log   io.Writer
}

func (b *builder) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%6.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

func (b *builder) build(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: files of the image have owners")
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.RemoveAll(b.tree); err != nil {
		return fmt.Errorf("clear the tree of an earlier run: %w", err)
	}
	if !b.keep {
		defer os.RemoveAll(b.tree)
	}
	if err := b.bootstrap(ctx); err != nil {
		return err
	}
	m, err := b.describe(ctx)
	if err != nil {
		return err
	}
	if err := b.finish(); err != nil {
		return err
	}
	if m.UsedBytes, err = size(b.tree); err != nil {
		return err
	}
	if err := b.disk(ctx, m.Root); err != nil {
		return err
	}
	if err := b.pack(&m); err != nil {
		return err
	}
	b.say("%s: %d packages, kernel %s, %.0f MiB of %d used, %.0f MiB packed", filepath.Join(b.out, diskName), len(m.Packages), m.Kernel,
		float64(m.UsedBytes)/(1<<20), b.size, float64(m.PackedBytes)/(1<<20))
	return nil
}

// bootstrap makes the tree of Debian's packages. Our files are put into it before the kernel's package comes, whose scripts they steer.
func (b *builder) bootstrap(ctx context.Context) error {
	sources, err := sources(ctx)
	if err != nil {
		return err
	}
	ours, err := os.MkdirTemp("", "rootfs")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(ours)
	if err := writeRootfs(ours); err != nil {
		return err
	}
	for _, s := range sources {
		b.say("from %s", s)
	}
	args := []string{
		"--mode=root", "--variant=minbase", "--quiet", "--include=" + strings.Join(packages, ","),
		`--aptopt=Acquire::Languages "none"`, "--dpkgopt=force-unsafe-io",
		// as root:root, whoever owns the files here
		"--essential-hook=tar -C " + ours + ` -c --owner=0 --group=0 . | tar -C "$1" -x --no-overwrite-dir`,
		suite, b.tree,
	}
	b.say("installing packages")
	_, err = command(ctx, "mmdebstrap", append(args, sources...)...)
	return err
}

// pack writes the packed image and the manifest.
func (b *builder) pack(m *manifest) error {
	b.say("packing")
	in, err := os.Open(filepath.Join(b.out, diskName))
	if err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(b.out, packedName))
	if err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	defer out.Close()
	sum, packedSum := sha256.New(), sha256.New()
	z, err := zstd.NewWriter(io.MultiWriter(out, packedSum), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	if m.Bytes, err = io.Copy(io.MultiWriter(z, sum), in); err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	if err := errors.Join(z.Close(), out.Sync()); err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	info, err := out.Stat()
	if err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	m.SHA256, m.PackedSHA256, m.PackedBytes = hex.EncodeToString(sum.Sum(nil)), hex.EncodeToString(packedSum.Sum(nil)), info.Size()
	return m.write(b.out)
}

// command runs a program and gives its output; what it says on standard error is in the error.
func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(errs.String())
		return nil, fmt.Errorf("run %s: %w: %s", name, err, text[max(0, len(text)-2000):])
	}
	return out.Bytes(), nil
}
