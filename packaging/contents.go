package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// part is one file of the release.
type part struct {
	tar  string // its place in the tarball; empty: not there
	deb  string // its place in the package; empty: not there
	from string // the file with its content, or
	body []byte // its content
	mode fs.FileMode
}

func (p part) content() ([]byte, error) {
	if p.from == "" {
		return p.body, nil
	}
	return os.ReadFile(p.from)
}

//go:embed files
var files embed.FS

// contents lists all files of the release, sorted by nothing yet.
func (r *release) contents(ctx context.Context, tmp string) ([]part, error) {
	const doc = "usr/share/doc/cloudengine/"
	parts := []part{
		{"bin/cloudengine", "usr/bin/cloudengine", filepath.Join(r.bin, "cloudengine"), nil, 0o755},
		{"bin/noded", "usr/lib/cloudengine/noded", filepath.Join(r.bin, "noded"), nil, 0o755},
		{"README.md", doc + "README.md", filepath.Join(r.root, "README.md"), nil, 0o644},
		{"doc/design.md", doc + "design.md", filepath.Join(r.root, "DESIGN.md"), nil, 0o644},
		{"doc/bus.md", doc + "bus.md", filepath.Join(r.root, "commands/api/DESIGN.md"), nil, 0o644},
		{"doc/catalogue.md", doc + "catalogue.md", filepath.Join(r.root, "schemas/CATALOGUE.md"), nil, 0o644},
		{"doc/commands.md", doc + "commands.md", filepath.Join(r.root, "commands/cloudengine/COMMANDS.md"), nil, 0o644},
		{"doc/keeping.md", doc + "keeping.md", filepath.Join(r.root, "packaging/DESIGN.md"), nil, 0o644},
	}
	license := "none given"
	if name := filepath.Join(r.root, "LICENSE"); exists(name) {
		license = "see LICENSE"
		parts = append(parts, part{"LICENSE", doc + "LICENSE", name, nil, 0o644})
	}
	for _, f := range []struct{ name, tar, deb string }{
		{"cloudengine.service", "systemd/cloudengine.service", "lib/systemd/system/cloudengine.service"},
		{"sysusers.conf", "systemd/sysusers.d/cloudengine.conf", "usr/lib/sysusers.d/cloudengine.conf"},
		{"tmpfiles.conf", "systemd/tmpfiles.d/cloudengine.conf", "usr/lib/tmpfiles.d/cloudengine.conf"},
		{"config.yaml", "config.yaml", "etc/cloudengine/config.yaml"},
		{"copyright", "", doc + "copyright"},
	} {
		body, err := fill(f.name, map[string]any{"License": license})
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{f.tar, f.deb, "", body, 0o644})
	}
	made, err := r.generated(ctx, tmp)
	if err != nil {
		return nil, err
	}
	image, err := r.bootImage()
	return slices.Concat(parts, made, image), err
}

// generated gives the manual, completion, and the list of what is linked into the programs.
func (r *release) generated(ctx context.Context, tmp string) ([]part, error) {
	program, man := filepath.Join(r.bin, "cloudengine"), filepath.Join(tmp, "man")
	if _, err := r.run(ctx, program, "manual", man); err != nil {
		return nil, err
	}
	pages, err := os.ReadDir(man)
	if err != nil {
		return nil, fmt.Errorf("list manual: %w", err)
	}
	var out []part
	for _, p := range pages {
		body, err := os.ReadFile(filepath.Join(man, p.Name()))
		if err != nil {
			return nil, fmt.Errorf("read manual: %w", err)
		}
		packed, err := zipped(body)
		if err != nil {
			return nil, err
		}
		out = append(out, part{"man/man1/" + p.Name() + ".gz", "usr/share/man/man1/" + p.Name() + ".gz", "", packed, 0o644})
	}
	for shell, place := range map[string]string{
		"bash": "usr/share/bash-completion/completions/cloudengine",
		"zsh":  "usr/share/zsh/vendor-completions/_cloudengine",
		"fish": "usr/share/fish/vendor_completions.d/cloudengine.fish",
	} {
		text, err := r.run(ctx, program, "completion", shell)
		if err != nil {
			return nil, err
		}
		out = append(out, part{"completion/" + path.Base(place) + suffix(shell), place, "", []byte(text), 0o644})
	}
	list, err := modules(filepath.Join(r.bin, "cloudengine"), filepath.Join(r.bin, "noded"))
	out = append(out, part{"doc/modules.txt", "usr/share/doc/cloudengine/modules.txt", "", list, 0o644})
	changes, err2 := zipped(fmt.Appendf(nil, "cloudengine (%s) unstable; urgency=medium\n\n  * See the history of the source.\n\n -- CloudEngine maintainers <maintainers@cloudengine.invalid>  %s\n",
		r.version, r.time.Format("Mon, 02 Jan 2006 15:04:05 -0700")))
	out = append(out, part{"", "usr/share/doc/cloudengine/changelog.gz", "", changes, 0o644})
	return out, errors.Join(err, err2)
}

func suffix(shell string) string {
	if shell == "bash" {
		return ".bash"
	}
	return ""
}

// bootImage gives the files of a boot image, for the tarball alone: a package of it would be larger than all else together.
func (r *release) bootImage() ([]part, error) {
	if r.image == "" {
		return nil, nil
	}
	list, err := os.ReadDir(r.image)
	if err != nil {
		return nil, fmt.Errorf("read boot image: %w", err)
	}
	var out []part
	for _, f := range list {
		if f.Type().IsRegular() {
			out = append(out, part{"image/" + f.Name(), "", filepath.Join(r.image, f.Name()), nil, 0o644})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read boot image: no files are in %s", r.image)
	}
	return out, nil
}

// modules lists what Go modules are in the programs.
func modules(programs ...string) ([]byte, error) {
	seen := map[string]bool{}
	for _, p := range programs {
		info, err := buildinfo.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read modules of %s: %w", p, err)
		}
		seen[info.GoVersion] = true
		for _, m := range info.Deps {
			seen[m.Path+" "+m.Version+" "+m.Sum] = true
		}
	}
	var lines []string
	for l := range seen {
		lines = append(lines, l)
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// fill reads one of our files and fills in what it leaves open.
func fill(name string, with map[string]any) ([]byte, error) {
	raw, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(raw))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, with); err != nil {
		return nil, fmt.Errorf("fill %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// zipped packs without name and time.
func zipped(body []byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(body)
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
