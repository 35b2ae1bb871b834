package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"cloudengine/bootimage"
	"cloudengine/bootimage/build"
	"cloudengine/e2e/lab/job"
)

// initPackage is the first program of the machine.
const initPackage = "cloudengine/e2e/lab/labinit"

// kernelFile is an unpacked kernel beside the image's files, which saves the time to unpack it.
const kernelFile = "vmlinux"

// prepare makes all files of the machine: programs, initramfs, kernel, disks.
func (m *machine) prepare(ctx context.Context) error {
	if _, err := bootimage.ReadManifest(m.image); err != nil {
		return fmt.Errorf("%w (go tool task image builds one)", err)
	}
	if err := goCommand(ctx, "test", "-c", "-tags", "lab", "-ldflags", "-s -w", "-o", m.file("program"), m.pkg); err != nil {
		return fmt.Errorf("build tests: %w", err)
	}
	if _, err := os.Stat(m.file("program")); err != nil {
		return fmt.Errorf("build tests: %s has none", m.pkg)
	}
	if err := goCommand(ctx, "build", "-ldflags", "-s -w", "-o", m.file("init"), initPackage); err != nil {
		return fmt.Errorf("build the machine's first program: %w", err)
	}
	if err := m.packInitrd(ctx); err != nil {
		return err
	}
	if err := m.unpackKernel(); err != nil {
		return err
	}
	return m.makeDisks()
}

// goCommand runs the go command; what it prints is shown.
func goCommand(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// packInitrd appends our files to the image's initramfs.
func (m *machine) packInitrd(ctx context.Context) error {
	work, err := json.Marshal(job.Job{Args: m.options.args, LogLevel: m.logLevel})
	if err != nil {
		return fmt.Errorf("encode job: %w", err)
	}
	files := []bootimage.File{{Path: job.Path, Data: work}}
	for dest, src := range map[string]string{job.InitPath: "init", job.ProgramPath: "program"} {
		body, err := os.ReadFile(m.file(src))
		if err != nil {
			return fmt.Errorf("pack initramfs: %w", err)
		}
		files = append(files, bootimage.File{Path: dest, Data: body, Program: true})
	}
	data, err := testdata(ctx, m.pkg)
	if err != nil {
		return err
	}
	in, err := os.Open(filepath.Join(m.image, bootimage.InitrdFile))
	if err != nil {
		return fmt.Errorf("pack initramfs: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("pack initramfs: %w", err)
	}
	joined, _, err := bootimage.AppendFiles(in, info.Size(), append(files, data...)...)
	if err != nil {
		return err
	}
	return writeFile(m.file("initrd.img"), joined)
}

// testdata returns the files below a package's testdata, as they are to be in the machine.
func testdata(ctx context.Context, pkg string) ([]bootimage.File, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-tags", "lab", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		return nil, fmt.Errorf("find package %s: %w", pkg, err)
	}
	dir := strings.TrimSpace(string(out))
	var files []bootimage.File
	err = filepath.WalkDir(filepath.Join(dir, "testdata"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		files = append(files, bootimage.File{Path: path.Join(job.WorkDir, filepath.ToSlash(rel)), Data: body})
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read testdata: %w", err)
	}
	return files, nil
}

// unpackKernel makes the kernel that QEMU starts without firmware; unpacking it inside the machine takes much longer.
func (m *machine) unpackKernel() error {
	ready, err := filepath.Abs(filepath.Join(m.image, kernelFile))
	if err != nil {
		return fmt.Errorf("find kernel: %w", err)
	}
	if _, err := os.Stat(ready); err == nil {
		return os.Symlink(ready, m.file("vmlinux"))
	}
	packed, err := os.ReadFile(filepath.Join(m.image, bootimage.KernelFile))
	if err != nil {
		return fmt.Errorf("read kernel: %w", err)
	}
	out, err := os.Create(m.file("vmlinux"))
	if err != nil {
		return fmt.Errorf("unpack kernel: %w", err)
	}
	return errors.Join(build.Vmlinux(out, packed), out.Close())
}

func writeFile(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
