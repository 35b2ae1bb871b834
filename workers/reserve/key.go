package reserve

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"cloudengine/events"
)

// Key is a reservation key; 0 is none. From the highest bit on: 8 bits that mark it as one of ours, 14 of a digest of the array, 10 of the epoch's
// term, 20 of its counter, 12 of a digest of the owner's boot. The layout is permanent: keys outlive agents.
type Key uint64

const (
	keyMark = 0xce

	arrayBits   = 14
	termBits    = 10
	counterBits = 20
	bootBits    = 12
)

// ErrEpoch says that an epoch does not fit into a key.
var ErrEpoch = errors.New("the epoch does not fit into a reservation key")

// KeyOf gives the key of the owner of an array under an epoch, in a boot. Error: ErrEpoch.
func KeyOf(a events.ArrayID, e events.Epoch, boot string) (Key, error) {
	if e.IsZero() || e.Term >= 1<<termBits || e.Counter >= 1<<counterBits {
		return 0, fmt.Errorf("make the key of array %s under %s: %w", a, e, ErrEpoch)
	}
	k := uint64(keyMark)<<arrayBits | digest("array", string(a), arrayBits)
	k = k<<termBits | e.Term
	k = k<<counterBits | e.Counter
	return Key(k<<bootBits | digest("boot", boot, bootBits)), nil
}

func digest(what, of string, bits int) uint64 {
	sum := sha256.Sum256([]byte("reservation\x00" + what + "\x00" + of))
	return binary.BigEndian.Uint64(sum[:]) >> (64 - bits)
}

// Ours says whether a key was made by KeyOf.
func (k Key) Ours() bool { return k>>56 == keyMark }

// Epoch gives the epoch of a key that is ours.
func (k Key) Epoch() events.Epoch {
	return events.Epoch{Term: uint64(k) >> (counterBits + bootBits) & (1<<termBits - 1), Counter: uint64(k) >> bootBits & (1<<counterBits - 1)}
}

// Of says whether a key is one of an array. Two arrays look alike once in 16384 pairs.
func (k Key) Of(a events.ArrayID) bool {
	return k.Ours() && uint64(k)>>(termBits+counterBits+bootBits)&(1<<arrayBits-1) == digest("array", string(a), arrayBits)
}

// By says whether a key was made in a boot. Two boots look alike once in 4096 pairs.
func (k Key) By(boot string) bool {
	return k.Ours() && uint64(k)&(1<<bootBits-1) == digest("boot", boot, bootBits)
}

// sameArray says whether two keys of ours are of one array.
func (k Key) sameArray(o Key) bool {
	return k>>(termBits+counterBits+bootBits) == o>>(termBits+counterBits+bootBits)
}

// String says what is in a key.
func (k Key) String() string {
	if !k.Ours() {
		return fmt.Sprintf("%#x", uint64(k))
	}
	return fmt.Sprintf("%#x (epoch %s)", uint64(k), k.Epoch())
}
