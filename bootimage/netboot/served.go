package netboot

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	servedDir = "served"
	// maxQueued bounds the reports of one machine that wait: the oldest is dropped, since no boot that was followed by
	// so many others still waits to enrol.
	maxQueued = 16
	// A machine gets a token every tokenEvery, after a first few: one that boots in a loop needs no more.
	tokenEvery = 5 * time.Second
	tokenBurst = 6
)

// newToken returns 32 random bytes as unpadded base64url text, and the hexadecimal SHA-256 of that text.
func newToken() (token, sum string) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	token = base64.RawURLEncoding.EncodeToString(raw)
	h := sha256.Sum256([]byte(token))
	return token, hex.EncodeToString(h[:])
}

type tokenLimits map[string]*rate.Limiter

func (s *Service) mayServe(machine string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.limits[machine]
	if l == nil {
		l = rate.NewLimiter(rate.Every(tokenEvery), tokenBurst)
		s.limits[machine] = l
	}
	return l.AllowN(s.opt.Now(), 1)
}

// servedQueue keeps reports on disk, one file each, named so that their order is the order of time.
type servedQueue struct {
	dir  string
	wake chan struct{}
	mu   sync.Mutex
	next uint64 // number of the next file
}

func openQueue(dir string) (*servedQueue, error) {
	q := &servedQueue{dir: dir, wake: make(chan struct{}, 1), next: 1}
	names, err := q.list()
	if err != nil {
		return nil, err
	}
	if len(names) > 0 {
		last := names[len(names)-1]
		if _, err := fmt.Sscanf(last, "%016x-", &q.next); err != nil {
			return nil, fmt.Errorf("read queue of served boots: file %q is not ours", last)
		}
		q.next++
	}
	return q, nil
}

// list returns the names of the waiting reports, oldest first.
func (q *servedQueue) list() ([]string, error) {
	entries, err := os.ReadDir(q.dir)
	if err != nil {
		return nil, fmt.Errorf("read queue of served boots: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// add stores a report; it is on disk when add returns nil.
func (q *servedQueue) add(b BootServed) error {
	raw, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode served boot: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	name := fmt.Sprintf("%016x-%s.json", q.next, fileToken(b.Machine))
	if err := writeDurably(filepath.Join(q.dir, name), raw); err != nil {
		return fmt.Errorf("queue served boot: %w", err)
	}
	q.next++
	if err := q.trim(fileToken(b.Machine)); err != nil {
		return err
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

func (q *servedQueue) trim(machine string) error {
	names, err := q.list()
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, "-"+machine+".json") })
	for i := 0; i < len(names)-maxQueued; i++ {
		if err := q.remove(names[i]); err != nil {
			return err
		}
	}
	return nil
}

func (q *servedQueue) remove(name string) error {
	if err := os.Remove(filepath.Join(q.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove delivered report: %w", err)
	}
	return nil
}

// fileToken makes a file name part of a machine's id, which is a UUID but is not trusted to be one.
func fileToken(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}

// deliver hands the reports to OnServed in order, until ctx ends. A report that is not taken is tried again after 1 s,
// then 2 s, up to 30 s; those behind it wait, so that order is kept.
func (s *Service) deliver(ctx context.Context) error {
	if s.opt.OnServed == nil {
		<-ctx.Done()
		return nil
	}
	const first, last = time.Second, 30 * time.Second
	delay := first
	for {
		err := s.deliverAll(ctx)
		wait := time.Duration(1<<63 - 1) // all is delivered: until there is more
		if err != nil && ctx.Err() == nil {
			s.opt.Log.Warn("report served boots", "error", err, "again_in", delay)
			wait, delay = delay, min(2*delay, last)
		} else {
			delay = first
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.queue.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (s *Service) deliverAll(ctx context.Context) error {
	names, err := s.queue.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(s.queue.dir, name)
		raw, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // trimmed meanwhile
		}
		if err != nil {
			return fmt.Errorf("read served boot: %w", err)
		}
		var b BootServed
		if err := json.Unmarshal(raw, &b); err != nil {
			// Not written by us. Keep the bytes for a human, and go on.
			s.opt.Log.Error("decode served boot; put aside", "file", path, "error", err)
			if err := os.Rename(path, path+".bad"); err != nil {
				return fmt.Errorf("put served boot aside: %w", err)
			}
			continue
		}
		if err := s.opt.OnServed(ctx, b); err != nil {
			return fmt.Errorf("report boot of %s: %w", b.Machine, err)
		}
		if err := s.queue.remove(name); err != nil {
			return err
		}
	}
	return nil
}
