package build

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/uio/llog"
)

// base describes the part of the initramfs that changes seldom: userland, Xen's tools, libraries, modules.
type base struct {
	moduleDir string // Go module of CloudEngine, where uinit is
	files     []imageFile
	modules   *moduleSet
	tools     []imageTool
}

type imageTool struct{ name, version string }

// write builds the archive with u-root and writes it compressed to dest.
func (b *base) write(dest, tmp string, say func(string, ...any)) error {
	work, err := os.MkdirTemp(tmp, "_uroot-")
	if err != nil {
		return fmt.Errorf("build initramfs: %w", err)
	}
	defer os.RemoveAll(work)
	records, err := cpio.ArchiveFromRecords(baseRecords())
	if err != nil {
		return fmt.Errorf("build initramfs: %w", err)
	}
	extra, err := b.extraFiles(work)
	if err != nil {
		return err
	}
	plain := filepath.Join(work, "base.cpio")
	env := golang.Default(golang.DisableCGO(), golang.WithGOARCH("amd64"), golang.WithGOOS("linux"),
		golang.WithBuildTag(userlandTags...), golang.WithWorkingDir(b.moduleDir))
	say("building u-root userland (%d commands)", len(userland)+1)
	var trouble bytes.Buffer
	logger := llog.New(slog.LevelWarn, func(format string, args ...any) { fmt.Fprintf(&trouble, format+"\n", args...) })
	err = uimage.Create(logger,
		uimage.WithReplaceEnv(env),
		uimage.WithBusyboxCommands(append([]string{uinit}, userland...)...),
		uimage.WithBaseArchive(records),
		uimage.WithFiles(extra...),
		uimage.WithSkipLDD(),
		uimage.WithInit("init"),
		uimage.WithUinit("uinit"),
		uimage.WithTempDir(work),
		uimage.WithCPIOOutput(plain),
	)
	if err != nil {
		return fmt.Errorf("build initramfs with u-root: %w: %s", err, strings.TrimSpace(trouble.String()))
	}
	say("compressing initramfs")
	return compressFile(plain, dest)
}

// extraFiles returns u-root's "source:destination" words for all files, and writes the module lists into work.
func (b *base) extraFiles(work string) ([]string, error) {
	var words []string
	for _, f := range b.files {
		src, err := apart(f.src, work)
		if err != nil {
			return nil, err
		}
		words = append(words, src+":"+strings.TrimPrefix(f.dest, "/"))
	}
	if b.modules == nil {
		return words, nil
	}
	below := path.Join("lib/modules", b.modules.release)
	for _, name := range sortedKeys(b.modules.infos) {
		p := b.modules.paths[name]
		words = append(words, b.modules.file(p)+":"+path.Join(below, p))
	}
	for name, body := range map[string][]byte{"modules.dep": b.modules.dep(), "modules.alias": b.modules.alias()} {
		file := filepath.Join(work, name)
		if err := os.WriteFile(file, body, 0o644); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		words = append(words, file+":"+path.Join(below, name))
	}
	return append(words, b.modules.file("modules.builtin")+":"+path.Join(below, "modules.builtin")), nil
}

// baseRecords returns the directories, devices, links and small files of the image.
func baseRecords() []cpio.Record {
	modes := map[string]uint64{}
	for d, mode := range directories {
		for up := path.Dir(d); up != "."; up = path.Dir(up) {
			if _, ok := modes[up]; !ok {
				modes[up] = 0o755
			}
		}
		modes[d] = mode
	}
	var records []cpio.Record
	for _, d := range sortedKeys(modes) {
		records = append(records, cpio.Directory(d, modes[d]))
	}
	records = append(records, cpio.CharDev("dev/console", 0o600, 5, 1), cpio.CharDev("dev/null", 0o666, 1, 3))
	for _, l := range sortedKeys(links) {
		records = append(records, cpio.Symlink(l, links[l]))
	}
	for _, t := range sortedKeys(texts) {
		records = append(records, cpio.StaticFile(t, texts[t], 0o644))
	}
	return records
}

// packProgram returns a compressed archive with one executable at dest (absolute).
func packProgram(src, dest string) ([]byte, error) {
	body, err := os.ReadFile(src)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", dest, err)
	}
	var plain bytes.Buffer
	w := cpio.Newc.Writer(&plain)
	record := cpio.StaticFile(strings.TrimPrefix(dest, "/"), string(body), 0o755)
	if err := w.WriteRecord(cpio.MakeReproducible(record)); err != nil {
		return nil, fmt.Errorf("pack %s: %w", dest, err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("pack %s: %w", dest, err)
	}
	var packed bytes.Buffer
	if err := compress(&packed, &plain); err != nil {
		return nil, fmt.Errorf("pack %s: %w", dest, err)
	}
	return packed.Bytes(), nil
}

// compress writes r as gzip without name and time, so that equal input gives equal output. gzip -6 boots faster than
// the denser formats: the kernel unpacks it in a fraction of the time.
func compress(w io.Writer, r io.Reader) error {
	z, err := gzip.NewWriterLevel(w, 6)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if _, err := io.Copy(z, r); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	return nil
}

// compressFile compresses src into dest, which appears only when it is complete.
func compressFile(src, dest string) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	defer in.Close()
	out, err := os.Create(dest + ".tmp")
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	defer out.Close()
	if err := compress(out, in); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if err := os.Rename(dest+".tmp", dest); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	return nil
}
