// Command packaging makes a release: a tarball and a Debian package with the programs, the systemd unit, the manual, shell completion
// and the documents, and SHA256SUMS over both.
//
// It promises that the same commit, Go toolchain and dpkg-deb give the same bytes: no time but the commit's, no owner but root, no
// order but the names'. The Debian package is made by dpkg-deb, which every machine that can build the boot image has, instead of a Go
// library for packages, which would bring a tree of dependencies for the same bytes. It signs nothing and uploads nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var r release
	out := flag.String("o", "bin/release", "directory of the release; what is in it is replaced")
	flag.StringVar(&r.version, "version", "", "version instead of the one of the file VERSION and the commit")
	flag.StringVar(&r.image, "image", "", "directory of a boot image that goes into the tarball as well")
	print := flag.Bool("print-version", false, "print the version and do nothing")
	flag.Parse()
	err := r.identify(ctx)
	switch {
	case err == nil && *print:
		fmt.Println(r.version)
	case err == nil:
		err = r.make(ctx, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// release is what is made.
type release struct {
	version string
	arch    string
	time    time.Time // of everything in it
	image   string
	root    string // of the source tree
	bin     string // holds the programs
}

// identify finds the source tree, and what it calls itself: "0.3.0~git20261123.f2206a2" unless it is told otherwise.
func (r *release) identify(ctx context.Context) error {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD", "GOARCH").Output()
	words := strings.Fields(string(mod))
	if err != nil || len(words) != 2 || words[0] == os.DevNull {
		return errors.Join(errors.New("find the source tree: run it below the tree"), err)
	}
	r.root, r.arch = filepath.Dir(words[0]), words[1]
	r.time = time.Unix(0, 0).UTC() // outside of git
	commit := ""
	if told, err := r.run(ctx, "git", "log", "-1", "--format=%ct %h"); err == nil {
		if seconds, short, ok := strings.Cut(strings.TrimSpace(told), " "); ok {
			n, err := strconv.ParseInt(seconds, 10, 64)
			if err != nil {
				return fmt.Errorf("read time of the commit: %w", err)
			}
			r.time, commit = time.Unix(n, 0).UTC(), short
		}
	}
	if r.version != "" {
		return nil
	}
	base, err := os.ReadFile(filepath.Join(r.root, "packaging", "VERSION"))
	if err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	r.version = strings.TrimSpace(string(base))
	if commit != "" {
		r.version += "~git" + r.time.Format("20060102") + "." + commit
	}
	return nil
}

func (r *release) make(ctx context.Context, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o755)); err != nil {
		return fmt.Errorf("make directory of the release: %w", err)
	}
	tmp, err := os.MkdirTemp("", "release-")
	if err != nil {
		return fmt.Errorf("make directory of the release: %w", err)
	}
	defer os.RemoveAll(tmp)
	r.bin = filepath.Join(tmp, "bin")
	if err := r.build(ctx); err != nil {
		return err
	}
	return r.pack(ctx, tmp, out)
}

// build makes the programs.
func (r *release) build(ctx context.Context) error {
	for name, pkg := range map[string]string{"cloudengine": "./commands/cloudengine", "noded": "./workers/noded"} {
		if _, err := r.run(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.release="+r.version,
			"-o", filepath.Join(r.bin, name), pkg); err != nil {
			return fmt.Errorf("build %s: %w", name, err)
		}
	}
	return nil
}

// pack makes the files of the release from the programs.
func (r *release) pack(ctx context.Context, tmp, out string) error {
	parts, err := r.contents(ctx, tmp)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("cloudengine-%s-linux-%s", r.version, r.arch)
	if err := r.tarball(filepath.Join(out, name+".tar.gz"), name, parts); err != nil {
		return err
	}
	if err := r.debian(ctx, tmp, filepath.Join(out, fmt.Sprintf("cloudengine_%s_%s.deb", r.version, r.arch)), parts); err != nil {
		return err
	}
	return sums(out)
}

// run runs a program in the source tree, with nothing in its environment that would make the result differ.
func (r *release) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "LC_ALL=C", "TZ=UTC", "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.time.Unix(), 10))
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w\n%s", name, err, words.String())
	}
	return string(out), nil
}
