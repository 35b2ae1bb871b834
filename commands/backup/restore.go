package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/events/archive"

	"golang.org/x/sys/unix"
)

// Target says where a backup is restored to.
type Target struct {
	Data string // must be empty or not there; its parent must be writable
	// Load makes the log's stream in a new directory, called streams in the data directory, from blocks given in order.
	Load     func(ctx context.Context, dir string, blocks func(add func(seq uint64, payload []byte) error) error) error
	Mark     string // name of the marker file in the data directory
	Outside  string // name of the directory in the data directory that gets what was outside of it
	Now      time.Time
	Progress Progress // nil: nobody listens
}

// Restore verifies a backup and lays a data directory out from it. Whatever fails, the directory is as it was.
func Restore(ctx context.Context, from string, t Target) (Manifest, error) {
	if t.Progress == nil {
		t.Progress = func(string, uint64, uint64) {}
	}
	if list, err := os.ReadDir(t.Data); err == nil && len(list) > 0 {
		return Manifest{}, fmt.Errorf("restore to %s: %w", t.Data, ErrNotEmpty)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	abs, err := filepath.Abs(t.Data)
	if err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	stage, err := os.MkdirTemp(filepath.Dir(abs), filepath.Base(abs)+".restoring-")
	if err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	m, err := t.restore(ctx, from, stage)
	if err == nil {
		err = t.place(stage, abs)
	}
	if err != nil {
		return Manifest{}, errors.Join(fmt.Errorf("restore %s: %w", from, err), os.RemoveAll(stage))
	}
	return m, nil
}

func (t *Target) restore(ctx context.Context, from, stage string) (Manifest, error) {
	log := filepath.Join(stage, ".log")
	m, err := t.unpack(ctx, from, stage, log)
	if err != nil {
		return m, err
	}
	if err := verifyLog(log, m.Log); err != nil {
		return m, err
	}
	err = t.Load(ctx, filepath.Join(stage, "streams"), func(add func(uint64, []byte) error) error {
		return readLog(log, func(seq uint64, payload []byte) error {
			if err := add(seq, payload); err != nil {
				return err
			}
			if seq%256 == 0 || seq == m.Log.Blocks {
				t.Progress(logName, seq, m.Log.Blocks)
			}
			return ctx.Err()
		})
	})
	if err != nil {
		return m, fmt.Errorf("load the log: %w", err)
	}
	mark, err := json.Marshal(Mark{Number: m.Log.Number, Head: m.Log.Head, At: t.Now.UTC()})
	if err == nil {
		err = errors.Join(os.Remove(log), os.WriteFile(filepath.Join(stage, t.Mark), append(mark, '\n'), 0o600))
	}
	return m, err
}

// place puts the finished directory to its name, after all is on the disk.
func (t *Target) place(stage, to string) error {
	d, err := os.Open(stage)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
	if err == nil {
		err = os.Chmod(stage, 0o750)
	}
	if err == nil {
		err = os.Rename(stage, to) // an empty directory there is replaced
	}
	return errors.Join(err, syncDir(filepath.Dir(to)))
}

// unpack writes the files out and compares them with the manifest.
func (t *Target) unpack(ctx context.Context, from, stage, log string) (Manifest, error) {
	var m Manifest
	found := map[string]File{}
	last := false
	err := entries(from, func(h *tar.Header, r io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if last {
			return fmt.Errorf("something follows the manifest: %w", ErrNotBackup)
		}
		if h.Name == manifestName {
			last = true
			return readManifest(r, &m)
		}
		to, err := t.pathOf(h, stage, log)
		if err != nil {
			return err
		}
		if _, twice := found[h.Name]; twice {
			return fmt.Errorf("%s is there twice: %w", h.Name, ErrNotBackup)
		}
		t.Progress(h.Name, 0, 0)
		found[h.Name], err = writeOut(h, r, to)
		return err
	})
	if err != nil {
		return m, err
	}
	if !last {
		return m, fmt.Errorf("it has no manifest, so it is cut off: %w", ErrNotBackup)
	}
	return m, compare(m, found)
}

func readManifest(r io.Reader, m *Manifest) error {
	if err := json.NewDecoder(r).Decode(m); err != nil {
		return fmt.Errorf("%w: read manifest: %w", ErrNotBackup, err)
	}
	switch {
	case m.Kind != kind:
		return ErrNotBackup
	case m.Format != Format:
		return fmt.Errorf("form %d, made by version %s: %w", m.Format, m.Version, ErrVersion)
	}
	return nil
}

// pathOf says where an entry goes. Names lead nowhere else.
func (t *Target) pathOf(h *tar.Header, stage, log string) (string, error) {
	if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
		return "", fmt.Errorf("entry %q: %w", h.Name, ErrNotBackup)
	}
	if h.Name == logName {
		return log, nil
	}
	if name, ok := strings.CutPrefix(h.Name, dataPrefix); ok {
		return filepath.Join(stage, name), nil
	}
	if name, ok := strings.CutPrefix(h.Name, outerPrefix); ok {
		return filepath.Join(stage, t.Outside, name), nil
	}
	return "", fmt.Errorf("entry %q: %w", h.Name, ErrNotBackup)
}

func writeOut(h *tar.Header, r io.Reader, to string) (File, error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return File{}, err
	}
	mode := fs.FileMode(h.Mode).Perm()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode&0o755)
	if err != nil {
		return File{}, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if err = errors.Join(err, f.Close()); err != nil {
		return File{}, fmt.Errorf("%s: %w: %w", h.Name, ErrNotBackup, err)
	}
	return File{h.Name, n, mode, hex.EncodeToString(sum.Sum(nil))}, nil
}

// compare finds what is not as the manifest says.
func compare(m Manifest, found map[string]File) error {
	for _, want := range m.Files {
		have, ok := found[want.Name]
		if !ok {
			return fmt.Errorf("%s is missing: %w", want.Name, ErrDigest)
		}
		if have.SHA256 != want.SHA256 || have.Size != want.Size {
			return fmt.Errorf("%s has %d bytes with the digest %.12s, and should have %d with %.12s: %w", want.Name, have.Size, have.SHA256, want.Size, want.SHA256, ErrDigest)
		}
		delete(found, want.Name)
	}
	var more []string
	for name := range found {
		more = append(more, name)
	}
	slices.Sort(more)
	if len(more) > 0 {
		return fmt.Errorf("the manifest does not know %s: %w", strings.Join(more, ", "), ErrDigest)
	}
	return nil
}

// verifyLog checks the chain of the copy, and that it ends as the manifest says.
func verifyLog(path string, want Log) error {
	var at events.Position
	err := readLog(path, func(seq uint64, payload []byte) (err error) {
		_, at, err = follow(at, seq, payload)
		return err
	})
	if err != nil {
		return err
	}
	if at.Seq != want.Blocks || at.Number != want.Number || at.Digest != want.Head || at.Term != want.Term {
		return fmt.Errorf("the log ends at decision %d (%.12s), and should at %d (%.12s): %w", at.Number, at.Digest, want.Number, want.Head, ErrDigest)
	}
	return nil
}

func readLog(path string, f func(seq uint64, payload []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the log of the backup: %w: %w", ErrNotBackup, err)
	}
	defer file.Close()
	_, _, err = archive.Read(file, f)
	return err
}
