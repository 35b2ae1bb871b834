package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/commands/filesystem"
)

// ErrRoom says that the server's disk has no room for a blob.
var ErrRoom = errors.New("no room")

// ErrBlob marks errors that are the sender's: a bad digest, size or offset, or content that is not what its digest says.
var ErrBlob = errors.New("blob refused")

// maxParts bounds the uploads that are begun and not complete, and so what they take of the disk.
const maxParts = 16

// partAge is after how long an upload that nobody goes on with is forgotten.
const partAge = 24 * time.Hour

// Blobs keeps files by their SHA-256 in a directory: <sha256> when complete and verified, <sha256>.part before. Its methods may be
// called from several goroutines of one process; only one process may write the directory.
type Blobs struct {
	dir string
	mu  sync.Mutex // chunks are small; one at a time keeps the files simple

	sums map[string]*running // of uploads that this process has seen from their beginning, or has read again
}

// running is the hash of what is stored of an upload: a large one is not read again at its end.
type running struct {
	hash.Hash
	at int64
}

// OpenBlobs opens the directory and makes it if needed.
func OpenBlobs(dir string) (*Blobs, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return &Blobs{dir: dir, sums: map[string]*running{}}, nil
}

// Path is where a blob is if it is complete. The digest must be one: 64 lower-case hex digits.
func (b *Blobs) Path(digest string) string { return filepath.Join(b.dir, digest) }

// Write adds a chunk at offset and says how many bytes are there and whether the blob is complete. A chunk that does not begin
// where the stored bytes end changes nothing: the caller goes on from the answer.
func (b *Blobs) Write(digest string, total, offset int64, chunk []byte) (at int64, done bool, err error) {
	raw, err := hex.DecodeString(digest)
	if err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != digest {
		return 0, false, fmt.Errorf("%w: %s must be 64 lower-case hex digits", ErrBlob, wire.HeaderSHA256)
	}
	if total < 1 || total > wire.MaxBlob {
		return 0, false, fmt.Errorf("%w: %s must be 1 to %d", ErrBlob, wire.HeaderTotal, int64(wire.MaxBlob))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if info, err := os.Stat(b.Path(digest)); err == nil {
		if info.Size() != total {
			return 0, false, fmt.Errorf("%w: this digest is of a blob of %d bytes", ErrBlob, info.Size())
		}
		return total, true, nil
	}
	if len(chunk) == 0 && offset == 0 {
		return b.partSize(digest), false, nil
	}
	return b.append(digest, total, offset, chunk)
}

func (b *Blobs) append(digest string, total, offset int64, chunk []byte) (int64, bool, error) {
	if err := errors.Join(b.roomFor(digest), b.roomOnDisk(total-b.partSize(digest))); err != nil {
		return 0, false, err
	}
	f, err := os.OpenFile(b.part(digest), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return 0, false, fmt.Errorf("store chunk: %w", err)
	}
	defer f.Close()
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, fmt.Errorf("store chunk: %w", err)
	}
	if offset != at {
		return at, false, nil
	}
	if at+int64(len(chunk)) > total {
		return at, false, fmt.Errorf("%w: %d bytes at %d are more than the total of %d", ErrBlob, len(chunk), at, total)
	}
	sum, err := b.sumTo(digest, f, at)
	if err != nil {
		return at, false, err
	}
	if _, err := f.Write(chunk); err != nil {
		return at, false, errors.Join(fmt.Errorf("store chunk: %w", err), f.Truncate(at))
	}
	sum.Write(chunk)
	at += int64(len(chunk))
	if sum.at = at; at < total {
		return at, false, nil
	}
	return b.finish(digest, f, total, sum)
}

// sumTo gives the hash of what is stored of an upload.
func (b *Blobs) sumTo(digest string, f *os.File, at int64) (*running, error) {
	if sum := b.sums[digest]; sum != nil && sum.at == at {
		return sum, nil
	}
	sum := &running{Hash: sha256.New(), at: at}
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, at)); err != nil {
		return nil, fmt.Errorf("read what is stored of the upload: %w", err)
	}
	b.sums[digest] = sum
	return sum, nil
}

// fullest is how much of the disk may be used after an upload: from 90 % on the server takes no intents.
const fullest = 0.88

// roomOnDisk refuses what would fill the disk.
func (b *Blobs) roomOnDisk(more int64) error {
	room, err := filesystem.RoomOf(b.dir)
	if err != nil {
		return nil // it is not known; what does not fit is refused by the disk
	}
	free := room.Free
	if least := int64(float64(room.Size()) * (1 - fullest)); free-more < least {
		return fmt.Errorf("%w: %d MiB more would leave less than %d MiB of the server's disk, which it needs for itself; %d MiB are free", ErrRoom, more>>20, least>>20, free>>20)
	}
	return nil
}

// finish verifies a blob that has all its bytes and gives it its final name.
func (b *Blobs) finish(digest string, f *os.File, total int64, sum *running) (int64, bool, error) {
	delete(b.sums, digest)
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		if err := os.Remove(b.part(digest)); err != nil {
			return 0, false, fmt.Errorf("remove blob that is wrong: %w", err)
		}
		return 0, false, fmt.Errorf("%w: the bytes have the digest %s; they were removed, begin again", ErrBlob, got)
	}
	if err := f.Sync(); err != nil {
		return 0, false, fmt.Errorf("store blob: %w", err)
	}
	if err := os.Rename(b.part(digest), b.Path(digest)); err != nil {
		return 0, false, fmt.Errorf("store blob: %w", err)
	}
	return total, true, syncDir(b.dir)
}

// roomFor refuses a new upload while too many are under way, after forgetting old ones.
func (b *Blobs) roomFor(digest string) error {
	if _, err := os.Stat(b.part(digest)); err == nil {
		return nil
	}
	parts, err := filepath.Glob(filepath.Join(b.dir, "*.part"))
	if err != nil {
		return fmt.Errorf("list uploads: %w", err)
	}
	live := 0
	for _, p := range parts {
		if info, err := os.Stat(p); err == nil && time.Since(info.ModTime()) < partAge {
			live++
			continue
		}
		delete(b.sums, strings.TrimSuffix(filepath.Base(p), ".part"))
		if err := os.Remove(p); err != nil {
			return fmt.Errorf("forget old upload: %w", err)
		}
	}
	if live >= maxParts {
		return fmt.Errorf("%d uploads are under way: ask again later", live)
	}
	return nil
}

func (b *Blobs) part(digest string) string { return b.Path(digest) + ".part" }

func (b *Blobs) partSize(digest string) int64 {
	info, err := os.Stat(b.part(digest))
	if err != nil {
		return 0
	}
	return info.Size()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
