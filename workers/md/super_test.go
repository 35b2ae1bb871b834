package md

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"
)

const arrayID = "00112233-4455-6677-8899-aabbccddeeff"

// encode writes a superblock as the kernel would.
func encode(s Super) []byte {
	le, b := binary.LittleEndian, make([]byte, superBytes)
	id, err := hex.DecodeString(s.UUID[:8] + s.UUID[9:13] + s.UUID[14:18] + s.UUID[19:23] + s.UUID[24:])
	if err != nil {
		panic(err)
	}
	le.PutUint32(b, magic)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], s.Features)
	copy(b[16:], id)
	copy(b[32:], s.Name)
	le.PutUint32(b[72:], uint32(s.Level))
	le.PutUint32(b[76:], uint32(s.Layout))
	le.PutUint64(b[80:], s.Sectors)
	le.PutUint32(b[88:], uint32(s.ChunkKiB*2))
	le.PutUint32(b[92:], uint32(s.RaidDisks))
	le.PutUint64(b[128:], s.DataOffset)
	le.PutUint64(b[144:], superAt/512)
	le.PutUint32(b[160:], uint32(s.DevNumber))
	if s.FailFast {
		b[184] = 2
	}
	le.PutUint64(b[200:], s.Events)
	le.PutUint64(b[208:], s.Resync)
	le.PutUint32(b[220:], uint32(len(s.Roles)))
	for i, r := range s.Roles {
		le.PutUint16(b[rolesAt+2*i:], r)
	}
	le.PutUint32(b[216:], checksum(b[:rolesAt+2*len(s.Roles)]))
	return b
}

func TestSuperComesBack(t *testing.T) {
	want := Super{UUID: arrayID, Name: "any:gold-1", Level: 10, Layout: 258, ChunkKiB: 64, RaidDisks: 3, Sectors: 65536, DataOffset: 32768,
		Events: 77, DevNumber: 2, Roles: []uint16{0, roleFaulty, 1}, Resync: 5, FailFast: true, Features: 1}
	got, err := ParseSuper(encode(want))
	if err != nil {
		t.Fatal(err)
	}
	if got.UUID != want.UUID || got.Name != want.Name || got.Layout != 258 || got.ChunkKiB != 64 || got.RaidDisks != 3 || got.Sectors != 65536 ||
		got.DataOffset != 32768 || got.Events != 77 || got.Slot() != 1 || got.SlotOf(1) != -1 || got.SlotOf(9) != -1 || !got.FailFast || got.Level != 10 ||
		got.Resync != 5 || !got.Complete() || !got.Has(0) || got.Has(2) {
		t.Errorf("got %+v", got)
	}
}

func TestBadSupers(t *testing.T) {
	good := encode(Super{UUID: arrayID, Roles: []uint16{0, 1}})
	if _, err := ParseSuper(make([]byte, superBytes)); !errors.Is(err, ErrNoSuper) {
		t.Errorf("zeroes: %v", err)
	}
	if _, err := ParseSuper(good[:100]); !errors.Is(err, ErrNoSuper) {
		t.Errorf("short: %v", err)
	}
	for _, at := range []int{200, 216, 257, 220} {
		bad := append([]byte(nil), good...)
		bad[at] ^= 4
		if _, err := ParseSuper(bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
}

func FuzzParseSuper(f *testing.F) {
	f.Add(encode(Super{UUID: arrayID, Roles: []uint16{0, 1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSuper(b)
		if err == nil {
			s.Slot()
			s.Has(0)
		}
	})
}
