package keep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"cloudengine/events"
	"cloudengine/events/audit"
)

// flushAt is how many hashes are held before they are written.
const flushAt = 1 << 16

// catchUp brings the tree to the log's end. k.mu is held.
func (k *Keeper) catchUp(ctx context.Context) error {
	if k.tree == nil {
		t, err := openStore(k.dir)
		if errors.Is(err, errDamaged) {
			return k.anew(ctx, err)
		}
		if err != nil {
			return err
		}
		k.tree = t
	}
	err := k.extend(ctx)
	if !errors.Is(err, ErrDiverged) {
		return err
	}
	why := err
	term, err := k.lastTerm(ctx)
	if err != nil || term <= k.tree.state.Term {
		return why
	}
	k.logger.Warn("the log was restored or reopened: what was hashed and is not in it any more is lost", "term", term,
		"decisions before", k.tree.state.Size, "term before", k.tree.state.Term)
	if err := os.Rename(k.path(headsFile), k.path(fmt.Sprintf("%s.before-term-%d", headsFile, term))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put the heads of the term before aside: %w", err)
	}
	k.last = nil
	return k.anew(ctx, why)
}

// lastTerm gives the term of the log's last block.
func (k *Keeper) lastTerm(ctx context.Context) (uint64, error) {
	term := uint64(0)
	err := k.log.Blocks(ctx, 0, func(_ uint64, payload []byte) error {
		e, err := events.OpenEnvelope(payload)
		if err == nil {
			term = e.Term
		}
		return err
	})
	return term, err
}

// anew removes the tree and makes it from the log.
func (k *Keeper) anew(ctx context.Context, why error) error {
	k.logger.Warn("the tree of the log is made anew", "reason", why)
	if k.tree != nil {
		if err := k.tree.close(); err != nil {
			return fmt.Errorf("close tree of the log: %w", err)
		}
		k.tree = nil
	}
	if err := remove(k.dir); err != nil {
		return err
	}
	t, err := openStore(k.dir)
	if err != nil {
		return err
	}
	k.tree = t
	return k.extend(ctx)
}

// extend adds what the log has after the tree. The tree's last block is read again: it must be the same.
func (k *Keeper) extend(ctx context.Context) error {
	s := k.tree
	g := grower{store: s, state: s.state, known: s.state, chain: audit.ChainAt(s.state.position())}
	err := k.log.Blocks(ctx, max(s.state.Seq, 1)-1, g.block)
	switch {
	case err == nil && g.known.Seq > 0 && !g.met:
		err = fmt.Errorf("%w (the block at sequence %d is not there)", ErrDiverged, g.known.Seq)
	case err == nil:
		err = g.flush()
	}
	if err != nil { // the tree in memory may be ahead of the files
		k.tree = nil
		t, again := openStore(k.dir)
		if again == nil {
			k.tree = t
		}
		return errors.Join(err, again, s.close())
	}
	return nil
}

// grower adds blocks to a store.
type grower struct {
	store *store
	known state // at the start
	state state
	chain audit.Chain
	met   bool // the last block that was known is there
	out   []audit.Hash
}

func (g *grower) block(seq uint64, payload []byte) error {
	d := audit.Decode(payload, false)
	if seq == g.known.Seq {
		if g.met = d.Digest == g.known.Digest; !g.met {
			return fmt.Errorf("%w (the block at sequence %d has digest %.12s and had %.12s)", ErrDiverged, seq, d.Digest, g.known.Digest)
		}
		return nil
	}
	if d.Err != nil {
		return fmt.Errorf("read block at sequence %d: %w: %w", seq, d.Err, events.ErrBroken)
	}
	g.chain.Follow(seq, d.Envelope, d.Digest)
	if !g.chain.None() {
		return fmt.Errorf("%w (%s)", ErrDiverged, g.chain.List[0])
	}
	if g.state.Cloud == "" {
		g.state.Cloud = d.Digest
	}
	g.out = g.store.tree.AddAll(d.Leaves, g.out)
	e := d.Envelope
	g.state.Size, g.state.Seq, g.state.Digest, g.state.Term, g.state.Time = e.Last(), seq, d.Digest, e.Term, e.Time
	if len(g.out) >= flushAt {
		return g.flush()
	}
	return nil
}

func (g *grower) flush() error {
	if len(g.out) == 0 {
		return nil
	}
	g.state.Root = g.store.tree.Root()
	err := g.store.add(g.out, g.state)
	g.out = g.out[:0]
	return err
}

// headsFile holds the heads that were signed, each ending in a line of its own.
const headsFile = "heads"

const headEnd = "==\n"

// keepEvery bounds how often a head is kept that was asked for.
const keepEvery = time.Minute

// keepHead appends a signed head, and has the disk hold it; not if one of the same size is there, or one was kept just now.
func (k *Keeper) keepHead(h audit.Head, note []byte) error {
	if size, at := k.lastKept(); size == h.Size || size > 0 && h.Signed.Sub(at).Abs() < keepEvery {
		return nil
	}
	f, err := os.OpenFile(k.path(headsFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keep signed head: %w", err)
	}
	_, err = f.Write(append(bytes.Clone(note), headEnd...))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep signed head: %w", err)
	}
	k.last = &h
	return nil
}

// heads gives the heads that were signed by this key, in order. What was half written by a crash is left out.
func (k *Keeper) heads() []audit.Head {
	raw, err := os.ReadFile(k.path(headsFile))
	if err != nil {
		return nil
	}
	var out []audit.Head
	for _, note := range bytes.Split(raw, []byte(headEnd)) {
		h, err := audit.Claimed(note)
		if err != nil {
			continue
		}
		public, err := audit.PublicKey(h.Cloud, k.key)
		if err != nil {
			continue
		}
		if h, err = audit.Open(note, public); err == nil {
			out = append(out, h)
		}
	}
	return out
}

// lastKept gives the size and time of the last head that was kept.
func (k *Keeper) lastKept() (size uint64, at time.Time) {
	if k.last == nil {
		k.last = &audit.Head{}
		if all := k.heads(); len(all) > 0 {
			k.last = &all[len(all)-1]
		}
	}
	return k.last.Size, k.last.Signed
}

// maxWitnesses bounds how many heads a check compares with.
const maxWitnesses = 200

// witnesses gives what is known of the log: the tree with its leaves if its files are whole, and the last heads.
func (k *Keeper) witnesses() []audit.Witness {
	var out []audit.Witness
	if s, err := openStore(k.dir); err == nil {
		if raw, err := s.leaves(0, int(s.state.Size)); err == nil && s.state.Size > 0 {
			w := audit.Witness{Name: "what this server hashed before", Head: s.head(), Leaves: make([]audit.Hash, len(raw)/32)}
			for i := range w.Leaves {
				copy(w.Leaves[i][:], raw[32*i:])
			}
			if audit.RootOf(w.Leaves) == w.Head.Root {
				out = append(out, w)
			}
		}
		_ = s.close() // it was read only
	}
	all := k.heads()
	for _, h := range all[max(0, len(all)-maxWitnesses):] {
		out = append(out, audit.Witness{Name: "the head of " + h.Signed.Format(time.RFC3339), Head: h})
	}
	return out
}
