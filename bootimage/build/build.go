// Package build makes the boot image of all machines, and the guest for tests, from Debian packages, u-root and our
// own programs.
//
// It promises: every Debian package is verified against the digest that apt's signed lists give, and is in the
// manifest; equal inputs give equal bytes, so the version (a digest) tells images apart; a run in which nothing changed
// takes seconds, and a change of noded alone packs only noded again. An image appears in the output directory complete
// or not at all. It does not install anything on the build machine, and it needs no root.
package build

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloudengine/bootimage"
)

// source is this package itself: a change of it makes the base of the image anew.
//
//go:embed *.go
var source embed.FS

// AgentPath is where noded is in the image.
const AgentPath = "/bin/noded"

// Options say what to build and where.
type Options struct {
	Module string // directory of CloudEngine's go.mod; default "."
	Out    string // images' directory; default "bin/image"
	Cache  string // default "bin/cache"
	Noded  string // Go package of the agent; default "cloudengine/workers/noded"
	// Like is a manifest to build again: its package versions are taken instead of those that apt offers now.
	Like *bootimage.Manifest
	// Keep is how many images stay in Out, the newest; 0 keeps all. A control plane that serves from Out must not be
	// left without the image that its machines boot.
	Keep int
	// Say receives progress, one line each; nil discards it.
	Say func(format string, args ...any)
}

func (o *Options) defaults() error {
	for _, d := range []struct {
		value *string
		def   string
	}{{&o.Module, "."}, {&o.Out, "bin/image"}, {&o.Cache, "bin/cache"}} {
		if *d.value == "" {
			*d.value = d.def
		}
		abs, err := filepath.Abs(*d.value)
		if err != nil {
			return fmt.Errorf("find directory %s: %w", *d.value, err)
		}
		*d.value = abs
	}
	if o.Noded == "" {
		o.Noded = "cloudengine/workers/noded"
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	for _, dir := range []string{o.Out, o.Cache, filepath.Join(o.Cache, "debs")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

// Image builds the boot image into <Out>/<version>/ and lets <Out>/current point to it. Builds with
// the same Cache wait for each other.
func Image(ctx context.Context, o Options) (bootimage.Manifest, error) {
	m, err := image(ctx, o)
	if err != nil {
		return bootimage.Manifest{}, fmt.Errorf("build boot image: %w", err)
	}
	return m, nil
}

func image(ctx context.Context, o Options) (bootimage.Manifest, error) {
	if err := o.defaults(); err != nil {
		return bootimage.Manifest{}, err
	}
	release, err := lockCache(ctx, o.Cache, o.Say)
	if err != nil {
		return bootimage.Manifest{}, err
	}
	defer release()
	for _, left := range []string{filepath.Join(o.Out, ".stage-*"), filepath.Join(o.Cache, "_uroot-*")} {
		prune(filepath.Dir(left), filepath.Base(left), 0) // of builds that were killed
	}
	stage, err := os.MkdirTemp(o.Out, ".stage-")
	if err != nil {
		return bootimage.Manifest{}, fmt.Errorf("make staging directory: %w", err)
	}
	defer os.RemoveAll(stage)
	m, err := assemble(ctx, o, stage)
	if err != nil {
		return m, err
	}
	if err := publish(stage, o.Out, &m); err != nil {
		return m, err
	}
	if o.Keep > 0 {
		prune(o.Out, strings.Repeat("[0-9a-f]", len(m.Version)), o.Keep)
	}
	return m, nil
}

// assemble puts the parts of the image into the stage and says what they were made of.
func assemble(ctx context.Context, o Options, stage string) (bootimage.Manifest, error) {
	m := bootimage.Manifest{}
	s := newStore(o)
	kernel, err := kernelPackage(ctx, s)
	if err != nil {
		return m, err
	}
	b, err := gather(ctx, s, kernel, o)
	if err != nil {
		return m, err
	}
	xen := s.debs[xenPackage]
	if err := stageKernels(xen, kernel, b.modules.release, stage); err != nil {
		return m, err
	}
	if err := stageInitrd(ctx, b, o, stage); err != nil {
		return m, err
	}
	if m.Contents, err = contentsOf(b, o); err != nil {
		return m, err
	}
	m.Kernel = b.modules.release
	m.Packages = packagesOf(append(b.files, imageFile{from: xen}, imageFile{from: kernel}))
	for _, t := range b.tools {
		m.Tools = append(m.Tools, bootimage.Tool{Name: t.name, Version: t.version})
	}
	return m, nil
}

func newStore(o Options) *store {
	s := &store{cache: filepath.Join(o.Cache, "debs"), pins: map[string]bootimage.Package{}, say: o.Say, debs: map[string]*deb{}}
	if o.Like != nil {
		for _, p := range o.Like.Packages {
			s.pins[p.Name] = p
		}
	}
	return s
}

func kernelPackage(ctx context.Context, s *store) (*deb, error) {
	s.say("resolving Debian packages")
	name, err := s.kernelPackage(ctx, kernelMeta)
	if err != nil {
		return nil, err
	}
	names := append(sortedKeys(programs), xenPackage, gccPackage, name)
	names = append(names, sortedKeys(firmware)...)
	if _, err := s.add(ctx, names...); err != nil {
		return nil, err
	}
	return s.debs[name], nil
}

// gather lists all that goes into the base of the initramfs.
func gather(ctx context.Context, s *store, kernel *deb, o Options) (*base, error) {
	var files []imageFile
	for _, pkg := range sortedKeys(programs) {
		for _, p := range programs[pkg] {
			src, err := filepath.EvalSymlinks(filepath.Join(s.debs[pkg].root, p))
			if err != nil {
				return nil, fmt.Errorf("find program %s in %s: %w", p, pkg, err)
			}
			files = append(files, imageFile{src: src, dest: p, from: s.debs[pkg]})
		}
	}
	files, err := s.closure(ctx, files, map[string]*deb{"libgcc_s.so.1": s.debs[gccPackage]})
	if err != nil {
		return nil, err
	}
	plain, err := s.firmwareFiles()
	if err != nil {
		return nil, err
	}
	files = append(files, plain...)
	modules, err := newModuleSet(kernel.root)
	if err != nil {
		return nil, err
	}
	for _, name := range kernelModules {
		if err := modules.add(name); err != nil {
			return nil, err
		}
	}
	tools, err := goTools(ctx, o.Module)
	if err != nil {
		return nil, err
	}
	return &base{moduleDir: o.Module, files: files, modules: modules, tools: tools}, nil
}

// goTools returns the versions of the Go toolchain and of u-root.
func goTools(ctx context.Context, dir string) ([]imageTool, error) {
	v, err := run(ctx, dir, "go", "env", "GOVERSION")
	if err != nil {
		return nil, fmt.Errorf("ask for the Go version: %w", err)
	}
	tools := []imageTool{{"go", strings.TrimSpace(string(v))}}
	out, err := run(ctx, dir, "go", "list", "-m", "-f", "{{.Path}} {{.Version}}",
		"github.com/u-root/u-root", "github.com/u-root/mkuimage", "github.com/u-root/gobusybox/src")
	if err != nil {
		return nil, fmt.Errorf("ask for the u-root version: %w", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		name, version, _ := strings.Cut(line, " ")
		tools = append(tools, imageTool{name, version})
	}
	return tools, nil
}

// publish completes the manifest, moves the stage to its version's directory and lets the link point to it.
func publish(stage, out string, m *bootimage.Manifest) error {
	for _, name := range []string{bootimage.XenFile, bootimage.KernelFile, bootimage.InitrdFile} {
		p, err := partOf(filepath.Join(stage, name))
		if err != nil {
			return err
		}
		m.Parts = append(m.Parts, p)
	}
	if err := m.Seal(); err != nil {
		return err
	}
	dir := filepath.Join(out, m.Version)
	if _, err := bootimage.ReadManifest(dir); err != nil {
		body, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			return fmt.Errorf("encode manifest: %w", err)
		}
		if err := os.WriteFile(filepath.Join(stage, bootimage.ManifestFile), append(body, '\n'), 0o644); err != nil {
			return fmt.Errorf("write manifest: %w", err)
		}
		if err := os.Chmod(stage, 0o755); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if err := os.Rename(stage, dir); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
	}
	if err := os.Chtimes(dir, time.Time{}, time.Now()); err != nil {
		return fmt.Errorf("publish image: %w", err)
	}
	return link(m.Version, filepath.Join(out, bootimage.CurrentLink))
}
