package audit

import (
	"crypto/sha256"
	"slices"
	"strconv"

	"cloudengine/events"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a hash of the tree.
type Hash = tlog.Hash

// AppendLeaf appends the leaf of one decision: its term, a space, the time of its block as it lies there, a line feed, and the
// decision's bytes as they lie in the block. Its number is its place in the tree.
func AppendLeaf(to []byte, e *events.Envelope, i int) []byte {
	to = strconv.AppendUint(to, e.Term, 10)
	to = append(to, ' ')
	to = append(to, e.TimeText...)
	to = append(to, '\n')
	return append(to, e.Decisions[i]...)
}

// LeafHash gives the hash of a leaf: tlog.RecordHash.
func LeafHash(leaf []byte) Hash { return sha256.Sum256(append([]byte{0}, leaf...)) }

// Tree folds leaves into the tree's root. It holds the roots of the whole subtrees alone, one for each bit of its size. The zero Tree
// is empty. Not safe for concurrent use.
type Tree struct {
	size  int64
	peaks []Hash   // from the largest subtree to the smallest
	watch []uint64 // sizes at which the root is noted, rising
	roots map[uint64]Hash
}

// Watch has the roots at some sizes noted, as the tree grows past them.
func (t *Tree) Watch(sizes ...uint64) {
	t.watch, t.roots = slices.Clone(sizes), map[uint64]Hash{}
	slices.Sort(t.watch)
}

// Watched gives the root that was noted at a size.
func (t *Tree) Watched(size uint64) (Hash, bool) {
	h, ok := t.roots[size]
	return h, ok
}

// Size gives the number of leaves.
func (t *Tree) Size() uint64 { return uint64(t.size) }

// Add adds the next leaf by its hash, and appends to out the hashes that a store of the tree holds for it, in tlog's order.
func (t *Tree) Add(leaf Hash, out []Hash) []Hash {
	out = append(out, leaf)
	t.size++
	for n := t.size; n&1 == 0; n >>= 1 {
		last := len(t.peaks) - 1
		leaf = tlog.NodeHash(t.peaks[last], leaf)
		t.peaks = t.peaks[:last]
		out = append(out, leaf)
	}
	t.peaks = append(t.peaks, leaf)
	for len(t.watch) > 0 && t.watch[0] <= uint64(t.size) {
		t.roots[t.watch[0]] = t.Root()
		t.watch = t.watch[1:]
	}
	return out
}

// AddAll adds leaves as Add does.
func (t *Tree) AddAll(leaves []Hash, out []Hash) []Hash {
	for _, l := range leaves {
		out = t.Add(l, out)
	}
	return out
}

// leavesOf gives the hashes of a block's leaves.
func leavesOf(e *events.Envelope) []Hash {
	out := make([]Hash, len(e.Decisions))
	var buf []byte
	for i := range e.Decisions {
		buf = AppendLeaf(append(buf[:0], 0), e, i)
		out[i] = sha256.Sum256(buf)
	}
	return out
}

// Root gives the root of the tree.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	h := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.peaks[i], h)
	}
	return h
}

// Resume gives a tree of a size whose hashes are stored, to go on from there.
func Resume(size uint64, stored tlog.HashReader) (*Tree, error) {
	t := &Tree{size: int64(size)}
	var indexes []int64
	done := int64(0)
	for level := 62; level >= 0; level-- {
		if n := int64(1) << level; t.size&n != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, done>>level))
			done += n
		}
	}
	if len(indexes) == 0 {
		return t, nil
	}
	var err error
	t.peaks, err = stored.ReadHashes(indexes)
	return t, err
}

// RootOf gives the root of the tree with these leaves.
func RootOf(leaves []Hash) Hash {
	var t Tree
	out := make([]Hash, 0, 64)
	for _, l := range leaves {
		out = t.Add(l, out[:0])
	}
	return t.Root()
}
