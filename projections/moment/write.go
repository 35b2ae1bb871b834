package moment

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"cloudengine/events"
)

// anchor is what a snapshot file says of itself, at its end.
type anchor struct {
	Schema string         // of the rows, and of the program that folded them
	Block  position       // the last block that is in it
	Roots  map[string]ref // by table, and by index
	Parked []events.Ref   // objects of which an event could not be applied
}

// position is events.Position as it is stored.
type position struct {
	Seq    uint64    `json:"seq"`
	Number uint64    `json:"number"`
	Term   uint64    `json:"term"`
	Digest string    `json:"digest"`
	Time   time.Time `json:"time"`
}

// snapshot is the read models after one block, in files.
type snapshot struct {
	anchor
	path     string
	anchored bool // its block was compared with the log's
}

const (
	fileBegin  = "cloudengine snapshot 1\n"
	fileEnd    = "\nend of snapshot\n"
	fileSuffix = ".snapshot"
	maxAnchor  = 64 << 20
)

// writer writes the pages of one snapshot file.
type writer struct {
	pages  *pages // of the snapshots before
	number uint64
	out    *bufio.Writer
	offset int64
}

// change is what becomes of a key: a new value, or its end.
type change struct {
	key, value string
	gone       bool
}

// tree writes a tree with changes, which are in the order of their keys and each of another key. What does not change is not written again.
func (w *writer) tree(root ref, changes []change) (ref, error) {
	if len(changes) == 0 {
		return root, nil
	}
	items, level, err := w.merge(root, changes)
	for err == nil && len(items) > 1 {
		level++
		items, err = w.pack(level, items)
	}
	if err != nil || len(items) == 0 {
		return ref{}, err
	}
	return unpackRef(items[0].value)
}

// merge writes anew the pages of a tree that changes touch, and gives the items for the page above.
func (w *writer) merge(root ref, changes []change) (above []item, level int, err error) {
	if root.Size == 0 {
		above, err = w.pack(0, mergeItems(nil, changes))
		return above, 0, err
	}
	p, err := w.pages.load(root)
	if err != nil {
		return nil, 0, err
	}
	if p.level == 0 {
		above, err = w.pack(0, mergeItems(p.items, changes))
		return above, 0, err
	}
	var items []item
	for i, it := range p.items {
		n := len(changes)
		if i+1 < len(p.items) {
			n = sort.Search(n, func(k int) bool { return changes[k].key >= p.items[i+1].key })
		}
		if n == 0 {
			items = append(items, it)
			continue
		}
		below, err := unpackRef(it.value)
		if err != nil {
			return nil, 0, &damaged{root.File, err}
		}
		now, _, err := w.merge(below, changes[:n])
		if err != nil {
			return nil, 0, err
		}
		items, changes = append(items, now...), changes[n:]
	}
	above, err = w.pack(p.level, items)
	return above, p.level, err
}

func mergeItems(items []item, changes []change) []item {
	out := make([]item, 0, len(items)+len(changes))
	for _, c := range changes {
		n := sort.Search(len(items), func(i int) bool { return items[i].key >= c.key })
		out = append(out, items[:n]...)
		if items = items[n:]; len(items) > 0 && items[0].key == c.key {
			items = items[1:]
		}
		if !c.gone {
			out = append(out, item{c.key, c.value})
		}
	}
	return append(out, items...)
}

// pack writes items into as few pages as they need, all about as full, and gives an item for each.
func (w *writer) pack(level int, items []item) ([]item, error) {
	total := 0
	for _, i := range items {
		total += i.size()
	}
	each := total/(total/pageSize+1) + 1
	var above []item
	for len(items) > 0 {
		n, size := 0, 0
		for n < len(items) && (n == 0 || size < each) {
			size += items[n].size()
			n++
		}
		r, err := w.put((&page{level, items[:n]}).encode())
		if err != nil {
			return nil, err
		}
		above, items = append(above, item{items[0].key, r.pack()}), items[n:]
	}
	return above, nil
}

func (w *writer) put(stored []byte) (ref, error) {
	r := ref{w.number, w.offset, len(stored), sumOf(stored)}
	if _, err := w.out.Write(stored); err != nil {
		return ref{}, fmt.Errorf("write page: %w", err)
	}
	w.offset += int64(len(stored))
	return r, nil
}

// writeSnapshot makes the file of a snapshot: build writes its pages and gives what it says of itself. The file is there whole, or not.
func writeSnapshot(dir string, from *pages, number uint64, schema string, build func(*writer) (anchor, error)) (*snapshot, error) {
	path := filepath.Join(dir, fileName(schema, number))
	fail := func(err error) (*snapshot, error) { return nil, fmt.Errorf("write snapshot %d: %w", number, err) }
	f, err := os.CreateTemp(dir, "new-*"+fileSuffix)
	if err != nil {
		return fail(err)
	}
	keep := false
	defer func() {
		if !keep { // the first error counts
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	w := &writer{pages: from, number: number, out: bufio.NewWriterSize(f, 1<<20)}
	if _, err := w.put([]byte(fileBegin)); err != nil {
		return fail(err)
	}
	a, err := build(w)
	if err != nil {
		return fail(err)
	}
	end, err := a.encode()
	if err == nil {
		_, err = w.out.Write(end)
	}
	if err = errors.Join(err, w.out.Flush()); err == nil {
		err = errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), path))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fail(err)
	}
	keep = true
	from.add(number, path)
	return &snapshot{anchor: a, path: path, anchored: true}, nil
}

func fileName(schema string, number uint64) string {
	return fmt.Sprintf("%s-%016d%s", schema, number, fileSuffix)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// encode gives the end of the file: the anchor, its digest, its length and a mark.
func (a *anchor) encode() ([]byte, error) {
	packed := map[string]string{}
	for name, r := range a.Roots {
		packed[name] = fmt.Sprintf("%x", r.pack())
	}
	text, err := json.Marshal(storedAnchor{a.Schema, a.Block, packed, a.Parked})
	if err != nil {
		return nil, fmt.Errorf("encode end of snapshot: %w", err)
	}
	sum := sha256.Sum256(text)
	out := binary.BigEndian.AppendUint64(append(text, sum[:]...), uint64(len(text)))
	return append(out, fileEnd...), nil
}

// storedAnchor is the JSON of an anchor.
type storedAnchor struct {
	Schema string            `json:"schema"`
	Block  position          `json:"block"`
	Roots  map[string]string `json:"roots"`
	Parked []events.Ref      `json:"parked,omitempty"`
}

// readAnchor reads and checks the end of a snapshot file.
func readAnchor(f *os.File) (anchor, error) {
	fail := func(what string) (anchor, error) { return anchor{}, errors.New(what) }
	info, err := f.Stat()
	if err != nil {
		return anchor{}, err
	}
	const tail = sha256.Size + 8 + len(fileEnd)
	last := make([]byte, tail)
	if info.Size() < int64(tail+len(fileBegin)) {
		return fail("it is cut off")
	}
	if _, err := f.ReadAt(last, info.Size()-int64(tail)); err != nil && !errors.Is(err, io.EOF) {
		return anchor{}, err
	}
	size := binary.BigEndian.Uint64(last[sha256.Size:])
	if string(last[sha256.Size+8:]) != fileEnd || size > maxAnchor || int64(size) > info.Size()-int64(tail) {
		return fail("it is cut off")
	}
	text := make([]byte, size)
	if _, err := f.ReadAt(text, info.Size()-int64(tail)-int64(size)); err != nil {
		return anchor{}, err
	}
	if sum := sha256.Sum256(text); string(sum[:]) != string(last[:sha256.Size]) {
		return fail("its end does not have the digest that it was written with")
	}
	return decodeAnchor(text)
}

func decodeAnchor(text []byte) (anchor, error) {
	var s storedAnchor
	if err := json.Unmarshal(text, &s); err != nil {
		return anchor{}, fmt.Errorf("read end of snapshot: %w", err)
	}
	a := anchor{Schema: s.Schema, Block: s.Block, Roots: map[string]ref{}, Parked: s.Parked}
	for name, packed := range s.Roots {
		var raw []byte
		if _, err := fmt.Sscanf(packed, "%x", &raw); err != nil {
			return anchor{}, fmt.Errorf("read root of %s: %w", name, err)
		}
		r, err := unpackRef(string(raw))
		if err != nil {
			return anchor{}, fmt.Errorf("read root of %s: %w", name, err)
		}
		a.Roots[name] = r
	}
	return a, nil
}

// isOurs says whether a file in the folder of the snapshots is one.
func isOurs(name string) bool { return strings.HasSuffix(name, fileSuffix) }
