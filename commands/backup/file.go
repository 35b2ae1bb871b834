package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
)

// writer writes the file and remembers what is in it.
type writer struct {
	path  string
	file  *os.File
	zip   *zstd.Encoder
	tar   *tar.Writer
	files []File
	names map[string]bool
}

func newWriter(path string) (*writer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make backup: %w", err)
	}
	zip, err := zstd.NewWriter(f, zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make backup: %w", err), f.Close(), os.Remove(path))
	}
	return &writer{path: path, file: f, zip: zip, tar: tar.NewWriter(zip), names: map[string]bool{}}, nil
}

func (w *writer) has(name string) bool { return w.names[name] }

// addFile adds a file as long as it is when it is opened.
func (w *writer) addFile(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return w.add(name, info.Mode().Perm(), info.Size(), f)
}

// add adds size bytes.
func (w *writer) add(name string, mode fs.FileMode, size int64, from io.Reader) error {
	h := &tar.Header{Name: name, Mode: int64(mode), Size: size, Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(w.tar, sum), from, size); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	w.files = append(w.files, File{name, size, mode, hex.EncodeToString(sum.Sum(nil))})
	w.names[name] = true
	return nil
}

// close writes all out, to the disk.
func (w *writer) close() error {
	return errors.Join(w.tar.Close(), w.zip.Close(), w.file.Sync(), w.file.Close())
}

// entries gives each entry of a backup, the manifest last. The reader is for the call alone.
func entries(path string, f func(h *tar.Header, r io.Reader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open backup: %w", err)
	}
	defer file.Close()
	zip, err := zstd.NewReader(file, zstd.WithDecoderMaxMemory(1<<30))
	if err != nil {
		return fmt.Errorf("open backup: %w", err)
	}
	defer zip.Close()
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, zip) // to the checksum at its end
			if err == nil {
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotBackup, err)
		}
		if err := f(h, r); err != nil {
			return err
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
