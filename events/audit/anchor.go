package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// ErrNotAnchor says that a file holds no anchor.
var ErrNotAnchor = errors.New("this is no anchor")

// Anchor is what a stranger keeps of a log: a signed head, the public key, and the hashes of all leaves, so that a change can be named
// and not only found. The root proves the leaves, and the signature the root.
type Anchor struct {
	Note   []byte // signed head
	Key    string // public; whoever trusts nobody compares it with what was published. Empty: it must be given
	Leaves []Hash // one for each decision; none: a change can be found and not named
}

const anchorMagic = "cloudengine anchor 1\n"

// Encode gives the file: a line that says what it is, the key, the number of leaves, a blank line, the signed note, and the leaves' hashes as
// 32 bytes each.
func (a Anchor) Encode() []byte {
	var b bytes.Buffer
	b.Grow(len(a.Note) + 32*len(a.Leaves) + 512)
	fmt.Fprintf(&b, "%skey %s\nhead %d\nleaves %d\n\n", anchorMagic, a.Key, len(a.Note), len(a.Leaves))
	b.Write(a.Note)
	for i := range a.Leaves {
		b.Write(a.Leaves[i][:])
	}
	return b.Bytes()
}

// ParseAnchor reads a file of Encode, or a signed head alone. It verifies nothing. Errors are ErrNotAnchor.
func ParseAnchor(file []byte) (Anchor, error) {
	if !bytes.HasPrefix(file, []byte(anchorMagic)) {
		if _, err := Claimed(file); err != nil {
			return Anchor{}, ErrNotAnchor
		}
		return Anchor{Note: file}, nil
	}
	head, rest, ok := bytes.Cut(file, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	var a Anchor
	var size, leaves int
	if ok = ok && len(lines) == 4 && strings.HasPrefix(lines[1], "key "); ok {
		a.Key = lines[1][len("key "):]
		_, err1 := fmt.Sscanf(lines[2], "head %d", &size)
		_, err2 := fmt.Sscanf(lines[3], "leaves %d", &leaves)
		ok = err1 == nil && err2 == nil && size > 0 && leaves >= 0
	}
	switch {
	case !ok:
		return a, fmt.Errorf("its first lines are not those of an anchor: %w", ErrNotAnchor)
	case size > len(rest) || leaves > len(rest)/32 || len(rest) < size+32*leaves:
		return a, fmt.Errorf("it is cut off: %w", ErrNotAnchor)
	case len(rest) > size+32*leaves:
		return a, fmt.Errorf("something follows it: %w", ErrNotAnchor)
	}
	a.Note, rest = rest[:size], rest[size:]
	if leaves > 0 {
		a.Leaves = make([]Hash, leaves)
	}
	for i := range a.Leaves {
		copy(a.Leaves[i][:], rest[32*i:])
	}
	return a, nil
}

// Verify verifies the anchor by public keys, or by the one that it holds if none is given, and gives its head. Errors: those of Open;
// ErrNotAnchor when its leaves are not those of its head.
func (a Anchor) Verify(keys ...string) (Head, error) {
	if len(keys) == 0 && a.Key == "" {
		return Head{}, fmt.Errorf("verify anchor: it holds none: %w (give --key)", ErrNoKey)
	}
	if len(keys) == 0 {
		keys = []string{a.Key}
	}
	h, err := Open(a.Note, keys...)
	if err != nil {
		return h, err
	}
	if a.Leaves != nil && (uint64(len(a.Leaves)) != h.Size || RootOf(a.Leaves) != h.Root) {
		return h, fmt.Errorf("verify anchor: its list of decisions is not that of its signed head: %w", ErrNotAnchor)
	}
	return h, nil
}
