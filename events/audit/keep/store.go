package keep

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cloudengine/events"
	"cloudengine/events/audit"
)

// errDamaged says that the files of the tree do not fit together.
var errDamaged = errors.New("the tree's files are damaged")

// state says what the file of hashes holds.
type state struct {
	Cloud  string     `json:"cloud"` // digest of the first block
	Size   uint64     `json:"size"`
	Root   audit.Hash `json:"root"`
	Seq    uint64     `json:"seq"`
	Digest string     `json:"digest"`
	Term   uint64     `json:"term"`
	Time   time.Time  `json:"time"`
}

func (s state) position() events.Position {
	return events.Position{Seq: s.Seq, Number: s.Size, Term: s.Term, Digest: s.Digest, Time: s.Time}
}

// store is the tree in two files: hashes, which only grows, and state, which is replaced after it has grown. What hashes holds beyond
// the state is written over.
type store struct {
	dir    string
	hashes *os.File
	state  state
	tree   *audit.Tree // at the end of state
}

const (
	hashesFile = "tree.hashes"
	stateFile  = "tree.state"
)

// openStore opens the files, or makes them. errDamaged: they do not fit.
func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open tree of the log: %w", err)
	}
	s := &store{dir: dir}
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err == nil {
		s.state, err = parseState(raw)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("open tree of the log: %w", err)
	}
	if s.hashes, err = os.OpenFile(filepath.Join(dir, hashesFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("open tree of the log: %w", err)
	}
	if s.tree, err = audit.Resume(s.state.Size, s); err == nil && s.state.Size > 0 && s.tree.Root() != s.state.Root {
		err = errDamaged
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open tree of the log: %w", err), s.hashes.Close())
	}
	return s, nil
}

// parseState reads the line of the state and the digest of it below.
func parseState(raw []byte) (state, error) {
	var s state
	line, sum, _ := bytes.Cut(raw, []byte("\n"))
	if have := sha256.Sum256(line); string(bytes.TrimSpace(sum)) != hex.EncodeToString(have[:]) || json.Unmarshal(line, &s) != nil {
		return s, fmt.Errorf("read state: %w", errDamaged)
	}
	return s, nil
}

// ReadHashes gives stored hashes by their indexes, for package tlog.
func (s *store) ReadHashes(indexes []int64) ([]audit.Hash, error) {
	out := make([]audit.Hash, len(indexes))
	for i, at := range indexes {
		if _, err := s.hashes.ReadAt(out[i][:], at*32); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: the file of hashes is too short", errDamaged)
			}
			return nil, err
		}
	}
	return out, nil
}

// add writes more hashes, and then the state that has them.
func (s *store) add(hashes []audit.Hash, to state) error {
	raw := make([]byte, 0, 32*len(hashes))
	for i := range hashes {
		raw = append(raw, hashes[i][:]...)
	}
	if _, err := s.hashes.WriteAt(raw, audit.StoredCount(s.state.Size)*32); err != nil {
		return fmt.Errorf("write tree of the log: %w", err)
	}
	line, err := json.Marshal(to)
	if err != nil {
		return fmt.Errorf("write tree of the log: %w", err)
	}
	sum := sha256.Sum256(line)
	if err := writeFile(filepath.Join(s.dir, stateFile), fmt.Appendf(line, "\n%s\n", hex.EncodeToString(sum[:]))); err != nil {
		return fmt.Errorf("write tree of the log: %w", err)
	}
	s.state = to
	return nil
}

func (s *store) head() audit.Head {
	t := s.state
	return audit.Head{Cloud: t.Cloud, Size: t.Size, Root: t.Root, Seq: t.Seq, Digest: t.Digest, Term: t.Term, Time: t.Time}
}

// leaves gives the hashes of up to n leaves after a number.
func (s *store) leaves(after uint64, n int) ([]byte, error) {
	if after >= s.state.Size {
		return nil, nil
	}
	n = int(min(uint64(n), s.state.Size-after))
	first, end := audit.StoredLeaf(after), audit.StoredLeaf(after+uint64(n)-1)+1
	raw := make([]byte, (end-first)*32)
	if _, err := s.hashes.ReadAt(raw, first*32); err != nil {
		return nil, fmt.Errorf("read tree of the log: %w (%w)", err, errDamaged)
	}
	out := make([]byte, 0, 32*n)
	for i := range uint64(n) {
		at := (audit.StoredLeaf(after+i) - first) * 32
		out = append(out, raw[at:at+32]...)
	}
	return out, nil
}

// prove gives the audit path of a leaf, verified.
func (s *store) prove(number, size uint64, leaf []byte) ([]audit.Hash, error) {
	path, err := audit.Path(number, size, s)
	if err != nil {
		return nil, err
	}
	root, err := audit.RootAt(size, s)
	if err != nil {
		return nil, err
	}
	if size == s.state.Size {
		root = s.state.Root
	}
	if audit.CheckPath(path, number, size, root, leaf) != nil {
		return nil, fmt.Errorf("prove decision %d: %w", number, errDamaged)
	}
	return path, nil
}

func (s *store) close() error { return s.hashes.Close() }

// remove takes the files away.
func remove(dir string) error {
	for _, name := range []string{stateFile, hashesFile} { // the state first: without it there is no tree
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove tree of the log: %w", err)
		}
	}
	return nil
}
