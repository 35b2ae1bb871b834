package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"cloudengine/events"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrNotProven says that a proof does not lead from its decision to its head.
var ErrNotProven = errors.New("the proof does not hold: the decision is not in the log that the head is of")

// Proof proves that one decision is in a log, at its number, without the rest of the log.
type Proof struct {
	Note   string `json:"head"` // signed
	Key    string `json:"key"`  // public
	Number uint64 `json:"number"`
	Leaf   []byte `json:"leaf"` // base64 in JSON
	Path   []Hash `json:"path"` // RFC 6962 audit path, base64
}

// ParseProof reads a proof. It verifies nothing.
func ParseProof(file []byte) (Proof, error) {
	var p Proof
	dec := json.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, fmt.Errorf("read proof: this is none: %w", err)
	}
	return p, nil
}

// Verify verifies the proof by public keys, or by the one that it holds if none is given, and gives the head and the decision. Errors:
// those of Open, ErrNotProven.
func (p Proof) Verify(keys ...string) (Head, events.Recorded, error) {
	var none events.Recorded
	h, err := Anchor{Note: []byte(p.Note), Key: p.Key}.Verify(keys...)
	if err != nil {
		return h, none, err
	}
	if p.Number == 0 || p.Number > h.Size {
		return h, none, fmt.Errorf("decision %d of %d: %w", p.Number, h.Size, ErrNotProven)
	}
	if err := CheckPath(p.Path, p.Number, h.Size, h.Root, p.Leaf); err != nil {
		return h, none, err
	}
	r, err := ParseLeaf(p.Number, p.Leaf)
	return h, r, err
}

// ParseLeaf reads the decision with a number from its leaf.
func ParseLeaf(number uint64, leaf []byte) (events.Recorded, error) {
	r := events.Recorded{Number: number}
	first, body, _ := bytes.Cut(leaf, []byte("\n"))
	term, at, _ := bytes.Cut(first, []byte(" "))
	var err1, err2 error
	r.Term, err1 = strconv.ParseUint(string(term), 10, 64)
	r.Time, err2 = time.Parse(time.RFC3339Nano, string(at))
	if err := errors.Join(err1, err2, json.Unmarshal(body, &r.Decision)); err != nil {
		return r, fmt.Errorf("read leaf of decision %d: %w", number, err)
	}
	return r, nil
}

// StoredCount gives how many hashes a store of a tree of a size holds.
func StoredCount(size uint64) int64 { return tlog.StoredHashCount(int64(size)) }

// StoredLeaf gives the index in a store of the leaf at a place, counted from 0.
func StoredLeaf(place uint64) int64 { return tlog.StoredHashIndex(0, int64(place)) }

// Path gives the audit path of the decision with a number in the tree of a size.
func Path(number, size uint64, stored tlog.HashReader) ([]Hash, error) {
	return tlog.ProveRecord(int64(size), int64(number-1), stored)
}

// RootAt gives the root of the tree when it had a size.
func RootAt(size uint64, stored tlog.HashReader) (Hash, error) {
	return tlog.TreeHash(int64(size), stored)
}

// CheckPath verifies an audit path. Its error is ErrNotProven.
func CheckPath(path []Hash, number, size uint64, root Hash, leaf []byte) error {
	if number == 0 || number > size || size > 1<<62 || tlog.CheckRecord(path, int64(size), root, int64(number-1), LeafHash(leaf)) != nil {
		return ErrNotProven
	}
	return nil
}
