package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/events/audit"

	"github.com/nats-io/nats.go"
)

// Head asks for a signed head of the log as it is now.
func (c *Client) Head(ctx context.Context) (wire.HeadAnswer, error) {
	a, err := askAbout(ctx, c, wire.HeadSubject(c.actor), struct{}{}, func(a wire.HeadAnswer) *events.Outcome { return a.Error })
	return a, err
}

// Leaves asks for the hashes of the log's first size decisions, page by page; size is that of a head. progress, which may be nil,
// hears how many are there.
func (c *Client) Leaves(ctx context.Context, size uint64, progress func(uint64)) ([]audit.Hash, error) {
	out := make([]audit.Hash, 0, size)
	for uint64(len(out)) < size {
		q := wire.LeavesRequest{After: uint64(len(out)), Limit: int(min(wire.MaxLeaves, size-uint64(len(out))))}
		a, err := askAbout(ctx, c, wire.LeavesSubject(c.actor), q, func(a wire.LeavesAnswer) *events.Outcome { return a.Error })
		if err != nil {
			return nil, err
		}
		if len(a.Hashes) < 32 || len(a.Hashes)%32 != 0 {
			return nil, fmt.Errorf("read the log's tree: %d bytes after decision %d of %d", len(a.Hashes), len(out), size)
		}
		for i := 0; i < len(a.Hashes); i += 32 {
			out = append(out, audit.Hash(a.Hashes[i:i+32]))
		}
		if progress != nil {
			progress(uint64(len(out)))
		}
	}
	return out, nil
}

// Prove asks for the proof that a decision is in the log of a size; 0: of now. A proof of another size than now holds no head.
func (c *Client) Prove(ctx context.Context, number, size uint64) (audit.Proof, error) {
	a, err := askAbout(ctx, c, wire.ProveSubject(c.actor), wire.ProveRequest{Number: number, Size: size},
		func(a wire.ProveAnswer) *events.Outcome { return a.Error })
	if err == nil && a.Proof == nil {
		err = errors.New("read proof: the answer has none")
	}
	if err != nil {
		return audit.Proof{}, err
	}
	return *a.Proof, nil
}

// Audit has the server check the whole log as it is stored, and the platform's invariants if they are asked for. It may take minutes.
func (c *Client) Audit(ctx context.Context, invariants bool) (wire.AuditAnswer, error) {
	return askAbout(ctx, c, wire.AuditSubject(c.actor), wire.AuditRequest{Invariants: invariants}, func(a wire.AuditAnswer) *events.Outcome { return a.Error })
}

// askAbout asks a question about the log's bytes, and again while it cannot be answered, until ctx ends.
func askAbout[A any](ctx context.Context, c *Client, subject string, q any, failed func(A) *events.Outcome) (A, error) {
	var a A
	body, err := encode(q)
	if err != nil {
		return a, fmt.Errorf("encode question about the log: %w", err)
	}
	err = c.persist(ctx, func() error {
		reply, err := c.nc.RequestWithContext(ctx, subject, body)
		if err != nil {
			return err
		}
		var fresh A
		if a = fresh; json.Unmarshal(reply.Data, &a) != nil {
			return fmt.Errorf("%.100q is no answer", reply.Data)
		}
		if o := failed(a); o != nil {
			return &Refusal{Outcome: *o}
		}
		return nil
	})
	return a, err
}

// persist tries until there is no reason to try again, or ctx ends.
func (c *Client) persist(ctx context.Context, try func() error) error {
	for {
		err := try()
		var no *Refusal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &no) && !isLater(no.Outcome.Code):
			return err
		case !isLaterError(err):
			return fmt.Errorf("ask about the log: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ask about the log: %w (%w)", ctx.Err(), err)
		case <-time.After(time.Second):
		}
	}
}

// Export gives f each block of the log as it is stored, in order, up to the end that the log had when the export began. last is that
// end.
func (c *Client) Export(ctx context.Context, f func(seq, last uint64, payload []byte) error) error {
	for after, last := uint64(0), uint64(0); after == 0 || after < last; {
		m, end, err := c.exportPage(ctx, after)
		if err != nil {
			return err
		}
		if last == 0 {
			last = end
		}
		if end < last || len(m) == 0 && last > 0 {
			return fmt.Errorf("copy the log: it ended at block %d and ends at %d now: %w", last, end, events.ErrBroken)
		}
		if last == 0 {
			return nil
		}
		for len(m) > 0 && after < last {
			if len(m) < 4 || uint64(binary.BigEndian.Uint32(m)) > uint64(len(m)-4) {
				return errors.New("copy the log: an answer is cut off")
			}
			n := 4 + binary.BigEndian.Uint32(m)
			after++
			if err := f(after, last, m[4:n]); err != nil {
				return err
			}
			m = m[n:]
		}
	}
	return nil
}

func (c *Client) exportPage(ctx context.Context, after uint64) (blocks []byte, last uint64, err error) {
	body, err := encode(wire.ExportRequest{After: after})
	if err != nil {
		return nil, 0, err
	}
	err = c.persist(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		var reply *nats.Msg
		if reply, err = c.nc.RequestWithContext(ctx, wire.ExportSubject(c.actor), body); err != nil {
			return err
		}
		if end := reply.Header.Get(wire.HeaderLast); end != "" {
			blocks = reply.Data
			last, err = strconv.ParseUint(end, 10, 64)
			return err
		}
		var no wire.ExportError
		if json.Unmarshal(reply.Data, &no) != nil || no.Error == nil {
			return fmt.Errorf("%.100q is no answer", reply.Data)
		}
		return &Refusal{Outcome: *no.Error}
	})
	return blocks, last, err
}
