package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloudengine/events"

	"golang.org/x/mod/sumdb/note"
)

// Errors of reading a head.
var (
	ErrNotHead  = errors.New("this is no signed head of a log")
	ErrWrongKey = errors.New("no signature on it is by the key that was given")
	ErrNoKey    = errors.New("no public key to verify it by")
	ErrForged   = errors.New("its signature does not fit what it says")
)

// Head says what a log was. Size counts its decisions.
type Head struct {
	Cloud  string // digest of the log's first block
	Size   uint64
	Root   Hash
	Seq    uint64 // of the block with the last decision
	Digest string // of that block's payload
	Term   uint64
	Time   time.Time // of that block
	Signed time.Time // by the clock of who signed
}

// Position gives the place in the log that the head is of.
func (h Head) Position() events.Position {
	return events.Position{Seq: h.Seq, Number: h.Size, Term: h.Term, Digest: h.Digest, Time: h.Time}
}

// Origin names a cloud's log for ever, in heads and in the names of keys.
func Origin(cloud string) string { return "cloudengine/" + cloud }

// Text gives the head in the form of a C2SP tlog-checkpoint, with four lines of extension.
func (h Head) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\nblock %d %s\nterm %d\ntime %s\nsigned %s\n", Origin(h.Cloud), h.Size, base64.StdEncoding.EncodeToString(h.Root[:]),
		h.Seq, h.Digest, h.Term, h.Time.UTC().Format(time.RFC3339Nano), h.Signed.UTC().Format(time.RFC3339Nano))
}

// ParseHead reads the form of Text, to the letter. Errors are ErrNotHead.
func ParseHead(text string) (Head, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 8 {
		return Head{}, fmt.Errorf("%d lines, want 7: %w", len(lines)-1, ErrNotHead)
	}
	var h Head
	h.Cloud = strings.TrimPrefix(lines[0], "cloudengine/")
	size, err1 := strconv.ParseUint(lines[1], 10, 62)
	root, err2 := base64.StdEncoding.DecodeString(lines[2])
	seq, digest, _ := strings.Cut(strings.TrimPrefix(lines[3], "block "), " ")
	n, err3 := strconv.ParseUint(seq, 10, 62)
	term, err4 := strconv.ParseUint(strings.TrimPrefix(lines[4], "term "), 10, 64)
	err5 := h.Time.UnmarshalText([]byte(strings.TrimPrefix(lines[5], "time ")))
	err6 := h.Signed.UnmarshalText([]byte(strings.TrimPrefix(lines[6], "signed ")))
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil || len(root) != len(h.Root) {
		return Head{}, fmt.Errorf("%w (%w)", ErrNotHead, errors.Join(err, errors.New("or a root that is none")))
	}
	h.Size, h.Seq, h.Digest, h.Term = size, n, digest, term
	copy(h.Root[:], root)
	if h.Text() != text || h.Size == 0 || h.Seq == 0 || len(h.Cloud) != 64 || len(h.Digest) != 64 {
		return Head{}, fmt.Errorf("it is not written as a head is: %w", ErrNotHead)
	}
	return h, nil
}

// signer signs notes in the name of a log.
type signer struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
}

func (s signer) Name() string                    { return s.name }
func (s signer) KeyHash() uint32                 { return s.hash }
func (s signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

// PublicKey gives the public half of a key that signs for a cloud's log, as text (the verifier key of package note).
func PublicKey(cloud string, key ed25519.PrivateKey) (string, error) {
	return note.NewEd25519VerifierKey(Origin(cloud), key.Public().(ed25519.PublicKey))
}

// Sign gives the signed note of a head.
func Sign(h Head, key ed25519.PrivateKey) ([]byte, error) {
	public, err := PublicKey(h.Cloud, key)
	if err != nil {
		return nil, fmt.Errorf("sign head: %w", err)
	}
	v, err := note.NewVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("sign head: %w", err)
	}
	return note.Sign(&note.Note{Text: h.Text()}, signer{v.Name(), v.KeyHash(), key})
}

// Open verifies a signed note with public keys and reads its head. Errors: ErrNotHead, ErrWrongKey, ErrForged; ErrNoKey for a key that
// is none.
func Open(signed []byte, keys ...string) (Head, error) {
	verifiers, err := verifiersOf(slices.Clone(keys))
	if err != nil {
		return Head{}, err
	}
	n, err := note.Open(signed, verifiers)
	var unknown *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unknown):
		return Head{}, fmt.Errorf("read head: %w (it is signed in the name of %s)", ErrWrongKey, names(unknown.Note))
	case errors.As(err, &invalid):
		return Head{}, fmt.Errorf("read head: %w", ErrForged)
	case err != nil:
		return Head{}, fmt.Errorf("read head: %w (%w)", ErrNotHead, err)
	}
	h, err := ParseHead(n.Text)
	if err != nil {
		return h, fmt.Errorf("read head: %w", err)
	}
	for _, s := range n.Sigs {
		if s.Name == Origin(h.Cloud) {
			return h, nil
		}
	}
	return Head{}, fmt.Errorf("read head: %w (the key is of another log)", ErrWrongKey)
}

// Claimed reads the head of a note without verifying anything.
func Claimed(signed []byte) (Head, error) {
	end := bytes.Index(signed, []byte("\n\n"))
	if end < 0 {
		return Head{}, fmt.Errorf("read head: %w", ErrNotHead)
	}
	return ParseHead(string(signed[:end+1]))
}

func verifiersOf(keys []string) (note.Verifiers, error) {
	var list []note.Verifier
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		v, err := note.NewVerifier(strings.TrimSpace(k))
		if err != nil {
			return nil, fmt.Errorf("read public key %.100q: %w (%w; want cloudengine/<cloud>+<hash>+<key>, as \"cloudengine audit key\" prints it)", k, ErrNoKey, err)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

func names(n *note.Note) string {
	var out []string
	for _, s := range n.UnverifiedSigs {
		out = append(out, fmt.Sprintf("%s (key %08x)", s.Name, s.Hash))
	}
	return strings.Join(out, ", ")
}
