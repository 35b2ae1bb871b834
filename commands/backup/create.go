package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/events/archive"
)

// Source is what a backup is made of.
type Source struct {
	Data    string            // the data directory
	Derived []string          // names in it that are left out
	Outside map[string]string // files and directories elsewhere, by the names that they get in the backup
	// Log gives each block of the log as it is stored, in order, up to an end that is fixed when it begins.
	Log      func(ctx context.Context, f func(seq, last uint64, payload []byte) error) error
	Version  string // of the program
	Now      time.Time
	Progress Progress // nil: nobody listens
}

// late are read after the log: what the log names is in them before the log names it. All else is read before the log, and so tells of
// nothing that the log of the backup does not have.
var late = []string{"secrets", "blobs"}

// Create writes a backup to a file, which must not exist.
func Create(ctx context.Context, to string, s Source) (Manifest, error) {
	if s.Progress == nil {
		s.Progress = func(string, uint64, uint64) {}
	}
	if _, err := os.Lstat(to); !errors.Is(err, os.ErrNotExist) {
		return Manifest{}, fmt.Errorf("write backup %s: %w", to, errors.Join(os.ErrExist, err))
	}
	w, err := newWriter(to + ".part")
	if err != nil {
		return Manifest{}, err
	}
	m, err := s.write(ctx, w)
	if err = errors.Join(err, w.close()); err == nil {
		err = os.Rename(to+".part", to)
	}
	if err != nil {
		return Manifest{}, errors.Join(fmt.Errorf("write backup %s: %w", to, err), os.Remove(to+".part"))
	}
	return m, syncDir(filepath.Dir(to))
}

func (s *Source) write(ctx context.Context, w *writer) (Manifest, error) {
	m := Manifest{Kind: kind, Format: Format, Made: s.Now.UTC(), Version: s.Version}
	for _, name := range slices.Sorted(maps.Keys(s.Outside)) {
		if err := s.tree(ctx, w, s.Outside[name], outerPrefix+name, nil); err != nil {
			return m, err
		}
	}
	if err := s.tree(ctx, w, s.Data, strings.TrimSuffix(dataPrefix, "/"), append(slices.Clone(late), s.Derived...)); err != nil {
		return m, err
	}
	var err error
	var names named
	if m.Log, err = s.log(ctx, w, &names); err != nil {
		return m, err
	}
	for _, dir := range late {
		if err := s.tree(ctx, w, filepath.Join(s.Data, dir), dataPrefix+dir, nil); err != nil {
			return m, err
		}
	}
	m.Files, m.Missing = w.files, names.missing(w.has)
	raw, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return m, fmt.Errorf("encode manifest: %w", err)
	}
	return m, w.add(manifestName, 0o600, int64(len(raw)), strings.NewReader(string(raw)))
}

// tree adds a file, or all files below a directory. What is not there is left out. A file that goes away meanwhile has another name
// now, so the directory is looked through again.
func (s *Source) tree(ctx context.Context, w *writer, from, as string, without []string) error {
	for try := 0; ; try++ {
		gone, err := s.walk(ctx, w, from, as, without)
		if err != nil || !gone {
			return err
		}
		if try == 10 {
			return fmt.Errorf("back up %s: files in it change all the time", from)
		}
	}
}

func (s *Source) walk(ctx context.Context, w *writer, from, as string, without []string) (gone bool, err error) {
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			gone = gone || path != from
			return nil
		}
		if err != nil {
			return fmt.Errorf("back up: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return fmt.Errorf("back up: %w", err)
		}
		if slices.Contains(without, rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name := as
		if rel != "." {
			name += "/" + filepath.ToSlash(rel)
		}
		if !d.Type().IsRegular() || w.has(name) || isPassing(name) {
			return nil
		}
		s.Progress(name, 0, 0)
		err = w.addFile(name, path)
		if errors.Is(err, fs.ErrNotExist) {
			gone = true
			return nil
		}
		return err
	})
	return gone, err
}

// isPassing says whether a file is one that is being written.
func isPassing(name string) bool {
	base := filepath.Base(name)
	return strings.HasSuffix(base, ".part") || strings.HasPrefix(base, ".write-") || strings.HasPrefix(base, ".check-")
}

// log copies the log beside the backup first, because its size must be known. Its chain is verified.
func (s *Source) log(ctx context.Context, w *writer, names *named) (Log, error) {
	spool, err := os.OpenFile(w.path+".log", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return Log{}, fmt.Errorf("copy the log: %w", err)
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	a, err := archive.NewWriter(spool, s.Now)
	if err != nil {
		return Log{}, err
	}
	var at events.Position
	err = s.Log(ctx, func(seq, last uint64, payload []byte) error {
		if seq%256 == 0 || seq == last {
			s.Progress(logName, seq, last)
		}
		var b *events.Block
		if b, at, err = follow(at, seq, payload); err != nil {
			return err
		}
		names.add(b)
		return a.Add(payload)
	})
	if err != nil {
		return Log{}, fmt.Errorf("copy the log: %w", err)
	}
	if at.Seq == 0 {
		return Log{}, errors.New("copy the log: it is empty")
	}
	if _, err := a.Close(); err != nil {
		return Log{}, err
	}
	size, err := spool.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = spool.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = w.add(logName, 0o600, size, spool)
	}
	return Log{Blocks: at.Seq, Number: at.Number, Term: at.Term, Head: at.Digest, Time: at.Time}, err
}

// follow verifies that a block is the next of the log.
func follow(at events.Position, seq uint64, payload []byte) (*events.Block, events.Position, error) {
	b, err := events.DecodeBlock(payload)
	if err != nil {
		return nil, at, err
	}
	at, err = at.Next(seq, b, events.Digest(payload))
	return b, at, err
}
