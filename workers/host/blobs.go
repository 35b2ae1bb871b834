package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"cloudengine/workers"
)

// BlobCache keeps the kernels and ramdisks of templates in memory (tmpfs), fetched by digest over HTTP and verified while they are
// written. What no document needs is dropped when room is short.
type BlobCache struct {
	Dir    string
	Base   string // URL; a file is at <Base>/blob/<sha256>
	Client *http.Client
	Limit  int64                  // bytes that all files together may take
	Needed func() map[string]bool // digests that documents name

	mu sync.Mutex // one fetch at a time: guests of one template would all ask for the same file
}

var _ Blobs = (*BlobCache)(nil)

// Errors of the cache.
var (
	ErrDigest = errors.New("the file's digest is not what it should be")
	ErrNoRoom = errors.New("no room for it among the files that are needed")
)

// Path says where a file lies once it was fetched.
func (b *BlobCache) Path(digest string) string { return filepath.Join(b.Dir, digest) }

// Have lists the files that are here.
func (b *BlobCache) Have() ([]string, error) {
	entries, err := os.ReadDir(b.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list files of templates: %w", err)
	}
	var out []string
	for _, e := range entries {
		if isDigest(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Fetch makes a file be here.
func (b *BlobCache) Fetch(ctx context.Context, digest string, size int64) error {
	if !isDigest(digest) {
		return workers.Permanent(fmt.Errorf("fetch %q: want a SHA-256", digest))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := os.Stat(b.Path(digest)); err == nil {
		return nil
	}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return fmt.Errorf("make directory for files of templates: %w", err)
	}
	if err := b.makeRoom(size); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(b.Base, "/")+"/blob/"+digest, nil)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", digest, err)
	}
	client := b.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", digest, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch %s: %s", digest, resp.Status)
	}
	return b.store(resp.Body, digest, size)
}

// store writes beside the final name and renames once the digest is right, so that a file with a digest's name is that file.
func (b *BlobCache) store(r io.Reader, digest string, size int64) error {
	tmp := b.Path(digest) + ".part"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", digest, err)
	}
	defer os.Remove(tmp)
	limit := b.Limit
	if size > 0 {
		limit = size
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(r, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("fetch %s: %w", digest, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n > limit || got != digest {
		return fmt.Errorf("fetch %s: got %d bytes with digest %s: %w", digest, n, got, ErrDigest)
	}
	if err := os.Rename(tmp, b.Path(digest)); err != nil {
		return fmt.Errorf("fetch %s: %w", digest, err)
	}
	return nil
}

// makeRoom drops files that no document names, the oldest first, until size more bytes fit.
func (b *BlobCache) makeRoom(size int64) error {
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		return fmt.Errorf("list files of templates: %w", err)
	}
	type file struct {
		name string
		size int64
		age  time.Time
	}
	needed := map[string]bool{}
	if b.Needed != nil {
		needed = b.Needed()
	}
	var total int64
	var spare []file
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		total += info.Size()
		if !needed[e.Name()] {
			spare = append(spare, file{e.Name(), info.Size(), info.ModTime()})
		}
	}
	sort.Slice(spare, func(i, j int) bool { return spare[i].age.Before(spare[j].age) })
	for _, f := range spare {
		if total+size <= b.Limit {
			break
		}
		if err := os.Remove(b.Path(f.name)); err != nil {
			return fmt.Errorf("drop %s: %w", f.name, err)
		}
		total -= f.size
	}
	if total+size > b.Limit {
		return fmt.Errorf("%d bytes of %d taken, %d more asked for: %w", total, b.Limit, size, ErrNoRoom)
	}
	return nil
}
