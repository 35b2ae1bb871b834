package moment

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"
)

// ref names a page of a snapshot file, by its place and by what it holds. The zero ref is a tree without entries.
type ref struct {
	File   uint64 // number of the file's snapshot
	Offset int64
	Size   int
	Sum    string // of the stored bytes: the first half of their SHA-256
}

const sumSize = 16

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return string(sum[:sumSize])
}

// pack writes a ref into few bytes.
func (r ref) pack() string {
	b := binary.AppendUvarint(nil, r.File)
	b = binary.AppendUvarint(b, uint64(r.Offset))
	b = binary.AppendUvarint(b, uint64(r.Size))
	return string(append(b, r.Sum...))
}

func unpackRef(s string) (ref, error) {
	b := []byte(s)
	var v [3]uint64
	for i := range v {
		x, n := binary.Uvarint(b)
		if n <= 0 {
			return ref{}, errors.New("a reference to a page cannot be read")
		}
		v[i], b = x, b[n:]
	}
	if len(b) != sumSize {
		return ref{}, errors.New("a reference to a page cannot be read")
	}
	return ref{v[0], int64(v[1]), int(v[2]), string(b)}, nil
}

// item is an entry of a page: a key with its value, or, in a page that is no leaf, the first key of a page below with its ref.
type item struct{ key, value string }

func (i item) size() int { return len(i.key) + len(i.value) + 4 }

// page is a part of a tree, read. It is not changed.
type page struct {
	level int // 0: a leaf
	items []item
}

// pageSize is what a page should hold, in bytes before compression. Each row that changes has a page written anew for it, so a larger one
// makes larger files; a smaller one compresses less.
const pageSize = 4 << 10

// maxPage bounds what is believed of a page's size: one row of a few MiB at most, and its neighbours.
const maxPage = 64 << 20

func (p *page) encode() []byte {
	b := []byte{byte(p.level)}
	for _, i := range p.items {
		b = binary.AppendUvarint(b, uint64(len(i.key)))
		b = append(b, i.key...)
		b = binary.AppendUvarint(b, uint64(len(i.value)))
		b = append(b, i.value...)
	}
	return s2.Encode(nil, b)
}

func decodePage(stored []byte) (*page, error) {
	n, err := s2.DecodedLen(stored)
	if err != nil || n < 1 || n > maxPage {
		return nil, errors.New("a page has an impossible size")
	}
	raw, err := s2.Decode(nil, stored)
	if err != nil {
		return nil, fmt.Errorf("unpack page: %w", err)
	}
	p, b, text := &page{level: int(raw[0])}, raw[1:], string(raw)
	next := func() (string, bool) {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return "", false
		}
		at := len(raw) - len(b) + n
		b = b[n+int(size):]
		return text[at : at+int(size)], true
	}
	for len(b) > 0 {
		key, ok1 := next()
		value, ok2 := next()
		if !ok1 || !ok2 {
			return nil, errors.New("a page ends in the middle of an entry")
		}
		p.items = append(p.items, item{key, value})
	}
	return p, nil
}

// find gives the index of the first item whose key is not below key.
func (p *page) find(key string) int {
	return sort.Search(len(p.items), func(i int) bool { return p.items[i].key >= key })
}

// under gives the index of the page below that holds a key, in a page that is no leaf.
func (p *page) under(key string) int {
	return max(0, sort.Search(len(p.items), func(i int) bool { return p.items[i].key > key })-1)
}

// damaged says that a snapshot file does not hold what was written.
type damaged struct {
	file uint64
	err  error
}

func (d *damaged) Error() string { return fmt.Sprintf("snapshot %d: %v", d.file, d.err) }

func (d *damaged) Unwrap() error { return d.err }

// pages reads pages of snapshot files and keeps some of them. Safe for concurrent use.
type pages struct {
	mu    sync.Mutex
	files map[uint64]string // paths: none is kept open, for there are thousands in a large log
	kept  map[[2]uint64]*list.Element
	order *list.List // of *keptPage, the last used first
	bytes int
	limit int
}

type keptPage struct {
	key  [2]uint64
	page *page
	size int
}

func newPages(limit int) *pages {
	return &pages{files: map[uint64]string{}, kept: map[[2]uint64]*list.Element{}, order: list.New(), limit: limit}
}

// add makes a file's pages readable.
func (s *pages) add(number uint64, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[number] = path
}

// drop forgets a file and its pages.
func (s *pages) drop(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.order.Front(); e != nil; {
		k, next := e.Value.(*keptPage), e.Next()
		if k.key[0] == number {
			s.order.Remove(e)
			delete(s.kept, k.key)
			s.bytes -= k.size
		}
		e = next
	}
	delete(s.files, number)
}

// load gives a page. An error is a *damaged.
func (s *pages) load(r ref) (*page, error) {
	key := [2]uint64{r.File, uint64(r.Offset)}
	s.mu.Lock()
	path := s.files[r.File]
	if e := s.kept[key]; e != nil {
		s.order.MoveToFront(e)
		s.mu.Unlock()
		return e.Value.(*keptPage).page, nil
	}
	s.mu.Unlock()
	p, err := readPage(path, r)
	if err != nil {
		return nil, &damaged{r.File, err}
	}
	s.keep(key, p)
	return p, nil
}

func readPage(path string, r ref) (*page, error) {
	if path == "" {
		return nil, errors.New("its file is not there")
	}
	if r.Size < 1 || r.Size > maxPage {
		return nil, errors.New("a page has an impossible size")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	stored := make([]byte, r.Size)
	if _, err := f.ReadAt(stored, r.Offset); err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	if sumOf(stored) != r.Sum {
		return nil, errors.New("a page does not have the digest that it was written with")
	}
	return decodePage(stored)
}

func (s *pages) keep(key [2]uint64, p *page) {
	size := 64
	for _, i := range p.items {
		size += i.size() + 32
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[key] != nil {
		return
	}
	s.kept[key] = s.order.PushFront(&keptPage{key, p, size})
	for s.bytes += size; s.bytes > s.limit && s.order.Len() > 1; {
		e := s.order.Back()
		k := e.Value.(*keptPage)
		s.order.Remove(e)
		delete(s.kept, k.key)
		s.bytes -= k.size
	}
}

// get finds the value of a key in a tree.
func (s *pages) get(root ref, key string) (string, bool, error) {
	for at := root; at.Size > 0; {
		p, err := s.load(at)
		if err != nil {
			return "", false, err
		}
		if p.level == 0 {
			if i := p.find(key); i < len(p.items) && p.items[i].key == key {
				return p.items[i].value, true, nil
			}
			return "", false, nil
		}
		if at, err = unpackRef(p.items[p.under(key)].value); err != nil {
			return "", false, &damaged{at.File, err}
		}
	}
	return "", false, nil
}

// errEnough ends a scan early.
var errEnough = errors.New("enough")

// scan gives a tree's entries from a key on, in their order, until f fails; errEnough from f is no error.
func (s *pages) scan(root ref, from string, f func(key, value string) error) error {
	err := s.walk(root, from, f)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (s *pages) walk(root ref, from string, f func(key, value string) error) error {
	if root.Size == 0 {
		return nil
	}
	p, err := s.load(root)
	if err != nil {
		return err
	}
	if p.level == 0 {
		for _, i := range p.items[p.find(from):] {
			if err := f(i.key, i.value); err != nil {
				return err
			}
		}
		return nil
	}
	for _, i := range p.items[p.under(from):] {
		below, err := unpackRef(i.value)
		if err != nil {
			return &damaged{root.File, err}
		}
		if err := s.walk(below, from, f); err != nil {
			return err
		}
	}
	return nil
}

// prefix gives the entries whose keys begin so, until f fails; errEnough from f is no error.
func (s *pages) prefix(root ref, begin string, f func(key, value string) error) error {
	return s.scan(root, begin, func(key, value string) error {
		if !strings.HasPrefix(key, begin) {
			return errEnough
		}
		return f(key, value)
	})
}
