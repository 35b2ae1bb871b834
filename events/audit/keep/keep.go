// Package keep holds a server's side of package audit: the key that signs heads, the tree of the log in local files, and the heads that
// were signed.
//
// It promises that a head is signed only over a log that goes on where the last one that was signed ended, unless the log itself says by a
// later term that it was restored; and that a tree which does not fit what is known of it is made anew from the log and never used.
// The tree is derived: its files may be removed at any time. Heads and key are not.
package keep

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"cloudengine/events"
	"cloudengine/events/audit"
)

// ErrDiverged says that the log does not go on where the tree of what it was before ends, and does not say why.
var ErrDiverged = errors.New("the log is not the continuation of what was hashed before: \"cloudengine audit verify\" names the difference; no head is signed")

// ErrEmpty says that the log has no decision yet.
var ErrEmpty = errors.New("the log is empty")

// Log is the log as it is stored, unverified.
type Log interface {
	// Blocks gives each block after a sequence, up to the present end.
	Blocks(ctx context.Context, after uint64, f func(seq uint64, payload []byte) error) error
	// Payload gives one block.
	Payload(ctx context.Context, seq uint64) ([]byte, error)
}

// Keeper keeps the tree. It is safe for concurrent use; one call at a time works.
type Keeper struct {
	dir    string
	key    ed25519.PrivateKey
	log    Log
	logger *slog.Logger
	now    func() time.Time

	mu   sync.Mutex
	tree *store      // nil: not opened yet
	last *audit.Head // that was kept; nil: not known
}

// Open makes a Keeper with its files below dir and its key in keyFile, which is made if it is not there. made says that it was.
func Open(dir, keyFile string, log Log, logger *slog.Logger, now func() time.Time) (k *Keeper, made bool, err error) {
	key, made, err := openKey(keyFile)
	if err != nil {
		return nil, false, err
	}
	return &Keeper{dir: dir, key: key, log: log, logger: logger, now: now}, made, nil
}

// Signed is a head with its note and the public key.
type Signed struct {
	audit.Head
	Note []byte
	Key  string
}

// Head brings the tree to the log's end and signs its head, which is kept.
func (k *Keeper) Head(ctx context.Context) (Signed, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return Signed{}, err
	}
	return k.sign()
}

func (k *Keeper) sign() (Signed, error) {
	h := k.tree.head()
	if h.Size == 0 {
		return Signed{}, fmt.Errorf("sign head: %w", ErrEmpty)
	}
	h.Signed = k.now().UTC().Truncate(time.Second)
	note, err := audit.Sign(h, k.key)
	if err != nil {
		return Signed{}, err
	}
	public, err := audit.PublicKey(h.Cloud, k.key)
	if err != nil {
		return Signed{}, err
	}
	return Signed{h, note, public}, k.keepHead(h, note)
}

// Leaves gives the hashes of n decisions after one, 32 bytes each, of a log of a size that was a head's.
func (k *Keeper) Leaves(ctx context.Context, after uint64, n int) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return nil, err
	}
	return k.tree.leaves(after, n)
}

// Prove proves the decision with a number to be in the log when it had size decisions; 0: now. Proofs of another size than now hold no
// head: whoever asks has it.
func (k *Keeper) Prove(ctx context.Context, number, size uint64) (audit.Proof, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return audit.Proof{}, err
	}
	var p audit.Proof
	if size == 0 {
		s, err := k.sign()
		if err != nil {
			return p, err
		}
		p.Note, p.Key, size = string(s.Note), s.Key, s.Size
	}
	if number == 0 || number > size || size > k.tree.state.Size {
		return p, fmt.Errorf("prove decision %d of %d: %w", number, size, ErrNoDecision)
	}
	p.Number = number
	var err error
	if p.Leaf, err = k.leaf(ctx, number); err != nil {
		return p, err
	}
	for try := range 2 {
		p.Path, err = k.tree.prove(number, size, p.Leaf)
		if !errors.Is(err, errDamaged) || try > 0 {
			break
		}
		if err := k.anew(ctx, err); err != nil {
			return p, err
		}
	}
	return p, err
}

// ErrNoDecision says that a decision is asked for that is not in the log.
var ErrNoDecision = errors.New("there is no such decision")

// leaf finds the block with a decision by halving.
func (k *Keeper) leaf(ctx context.Context, number uint64) ([]byte, error) {
	for low, high := uint64(1), k.tree.state.Seq; low <= high; {
		mid := (low + high) / 2
		payload, err := k.log.Payload(ctx, mid)
		if err != nil {
			return nil, err
		}
		e, err := events.OpenEnvelope(payload)
		switch {
		case err != nil:
			return nil, fmt.Errorf("read block at sequence %d: %w: %w", mid, err, events.ErrBroken)
		case number < e.First:
			high = mid - 1
		case number > e.Last():
			low = mid + 1
		default:
			return audit.AppendLeaf(nil, e, int(number-e.First)), nil
		}
	}
	return nil, fmt.Errorf("find decision %d: no block has it: %w", number, events.ErrBroken)
}

// Verify checks the whole log as it is stored: that it is a chain, and that it holds what the kept tree and the signed heads say. each
// may find more.
func (k *Keeper) Verify(ctx context.Context, each func(*events.Block) []audit.Finding) (audit.Report, error) {
	k.mu.Lock()
	known := k.witnesses()
	k.mu.Unlock()
	return audit.Check(func(f func(uint64, []byte) error) error { return k.log.Blocks(ctx, 0, f) }, known, each)
}

// Run brings the tree to the log's end now and then, so that a head costs little, and keeps a signed head of each hour, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	said := false
	for {
		switch err := k.step(ctx); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrDiverged) && said: // once is enough
		case err != nil:
			k.logger.Error("the tree of the log does not follow it", "error", err)
			said = errors.Is(err, ErrDiverged)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (k *Keeper) step(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	size, at := k.lastKept()
	if h := k.tree.head(); h.Size == size || k.now().Sub(at) < time.Hour {
		return nil
	}
	s, err := k.sign()
	if err == nil && size == 0 {
		k.logger.Info("signed the first head of the log", "key", s.Key, "decisions", s.Size)
	}
	return err
}

func (k *Keeper) path(name string) string { return filepath.Join(k.dir, name) }
