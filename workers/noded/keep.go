package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nkeys"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// keeper keeps in a directory in memory what the next agent of this boot must know: a few small files.
type keeper struct {
	dir string

	mu      sync.Mutex
	counter uint64
}

func newKeeper(dir string) (*keeper, error) {
	if err := os.MkdirAll(filepath.Join(dir, "desired"), 0o700); err != nil {
		return nil, fmt.Errorf("make directory for documents: %w", err)
	}
	return &keeper{dir: dir}, nil
}

// sameBoot empties what was kept if it is of another boot: a directory that is not in memory outlives one.
func (k *keeper) sameBoot(boot string) error {
	path := filepath.Join(k.dir, "boot")
	b, err := os.ReadFile(path)
	if err == nil && string(b) == boot {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read kept boot id: %w", err)
	}
	err = errors.Join(os.RemoveAll(filepath.Join(k.dir, "desired")), os.MkdirAll(filepath.Join(k.dir, "desired"), 0o700))
	for _, f := range []string{"counter", "nkey", "enrolled", "capacity.json"} {
		if e := os.Remove(filepath.Join(k.dir, f)); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, writeFile(path, []byte(boot)))
}

var errName = errors.New("its kind or id cannot be a file's name")

// keep stores a document before it counts and before it is acknowledged.
func (k *keeper) keep(d desired.Document) error {
	if !events.IsToken(string(d.Kind)) || !events.IsToken(d.ID) {
		return errName
	}
	return writeJSON(filepath.Join(k.dir, "desired", string(d.Kind)+"."+d.ID+".json"), d)
}

// load gives the kept documents to w.
func (k *keeper) load(w *workers.Wishes) error {
	files, err := filepath.Glob(filepath.Join(k.dir, "desired", "*.json"))
	if err != nil {
		return fmt.Errorf("list kept documents: %w", err)
	}
	var docs []desired.Document
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("read kept document: %w", err)
		}
		d, err := desired.Decode(b)
		if err != nil {
			return fmt.Errorf("read kept document %s: %w", filepath.Base(f), err)
		}
		docs = append(docs, d)
	}
	w.Restore(docs)
	return nil
}

// next gives the next counter of this boot's reports.
func (k *keeper) next() (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	path := filepath.Join(k.dir, "counter")
	if k.counter == 0 {
		b, err := os.ReadFile(path)
		if err == nil {
			k.counter, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("read counter: %w", err)
		}
	}
	if err := writeFile(path, []byte(strconv.FormatUint(k.counter+1, 10))); err != nil {
		return 0, err
	}
	k.counter++
	return k.counter, nil
}

// key gives this boot's key; the first call makes it.
func (k *keeper) key() (nkeys.KeyPair, error) {
	path := filepath.Join(k.dir, "nkey")
	seed, err := os.ReadFile(path)
	if err == nil {
		return nkeys.FromSeed(seed)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read key: %w", err)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if seed, err = pair.Seed(); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return pair, writeFile(path, seed)
}

// enrolled says whether this boot's enrolment was answered.
func (k *keeper) enrolled() bool {
	_, err := os.Stat(filepath.Join(k.dir, "enrolled"))
	return err == nil
}

func (k *keeper) setEnrolled(yes bool) error {
	path := filepath.Join(k.dir, "enrolled")
	if yes {
		return writeFile(path, nil)
	}
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
