package build

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"cloudengine/bootimage"
)

// stageKernels puts the hypervisor (unpacked: boot loaders want the plain ELF) and the kernel into the stage.
func stageKernels(xen, kernel *deb, release, stage string) error {
	found, err := filepath.Glob(filepath.Join(xen.root, "boot/xen-*.gz"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("find hypervisor in %s: %d candidates", xen.Name, len(found))
	}
	in, err := os.Open(found[0])
	if err != nil {
		return fmt.Errorf("unpack hypervisor: %w", err)
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("unpack hypervisor: %w", err)
	}
	if err := writeFrom(filepath.Join(stage, bootimage.XenFile), z); err != nil {
		return fmt.Errorf("unpack hypervisor: %w", err)
	}
	k, err := os.Open(filepath.Join(kernel.root, "boot/vmlinuz-"+release))
	if err != nil {
		return fmt.Errorf("copy kernel: %w", err)
	}
	defer k.Close()
	if err := writeFrom(filepath.Join(stage, bootimage.KernelFile), k); err != nil {
		return fmt.Errorf("copy kernel: %w", err)
	}
	return nil
}

// stageInitrd joins the base (built only when its inputs changed) and the agent, padded to a multiple of 4.
func stageInitrd(ctx context.Context, b *base, o Options, stage string) error {
	key, err := b.key()
	if err != nil {
		return err
	}
	cached := filepath.Join(o.Cache, "base-"+key+".cpio.gz")
	if _, err := os.Stat(cached); errors.Is(err, os.ErrNotExist) {
		if err := b.write(cached, o.Cache, o.Say); err != nil {
			return err
		}
		prune(o.Cache, "base-*.cpio.gz", 3)
	} else if err != nil {
		return fmt.Errorf("look for the cached base: %w", err)
	}
	o.Say("building %s", o.Noded)
	agent := filepath.Join(o.Cache, "noded")
	if err := goBuild(ctx, o.Module, o.Noded, agent); err != nil {
		return err
	}
	packed, err := packProgram(agent, AgentPath)
	if err != nil {
		return err
	}
	in, err := os.Open(cached)
	if err != nil {
		return fmt.Errorf("read the cached base: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("read the cached base: %w", err)
	}
	pad := make([]byte, (4-(info.Size()+int64(len(packed)))%4)%4)
	joined := io.MultiReader(in, strings.NewReader(string(packed)), strings.NewReader(string(pad)))
	if err := writeFrom(filepath.Join(stage, bootimage.InitrdFile), joined); err != nil {
		return fmt.Errorf("join initramfs: %w", err)
	}
	return nil
}

// key is a digest of everything that determines the base's bytes.
func (b *base) key() (string, error) {
	h := sha256.New()
	for _, f := range b.files {
		fmt.Fprintf(h, "file %s %s\n", f.dest, f.from.SHA256)
	}
	fmt.Fprintf(h, "modules %s %s\n", b.modules.release, b.modules.dep())
	fmt.Fprintf(h, "tools %v\n", b.tools)
	entries, err := source.ReadDir(".")
	if err != nil {
		return "", fmt.Errorf("read own source: %w", err)
	}
	for _, e := range entries {
		body, err := source.ReadFile(e.Name())
		if err != nil {
			return "", fmt.Errorf("read own source: %w", err)
		}
		if !strings.HasSuffix(e.Name(), "_test.go") {
			fmt.Fprintf(h, "source %s %x\n", e.Name(), sha256.Sum256(body))
		}
	}
	mains, err := filepath.Glob(filepath.Join(b.moduleDir, "bootimage/uinit/*.go"))
	if err != nil || len(mains) == 0 {
		return "", fmt.Errorf("read the source of uinit in %s: %d files", b.moduleDir, len(mains))
	}
	for _, p := range mains {
		sum, err := fileSum(p)
		if err != nil {
			return "", fmt.Errorf("read the source of uinit: %w", err)
		}
		fmt.Fprintf(h, "uinit %s\n", sum)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// goBuild compiles one of our commands for the image: static, stripped, without the build machine's paths.
func goBuild(ctx context.Context, dir, pkg, dest string) error {
	if _, err := run(ctx, dir, "env", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64",
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", dest, pkg); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}
