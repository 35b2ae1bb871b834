package md

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Super is the superblock of one member: struct mdp_superblock_1 (Linux, include/uapi/linux/raid/md_p.h).
type Super struct {
	UUID       string // of the array, as in events.ArrayID
	Name       string
	Level      int
	Layout     int // near copies + 256 for one far copy
	ChunkKiB   int
	RaidDisks  int
	Sectors    uint64 // of each member that are used
	DataOffset uint64 // sectors
	Events     uint64
	DevNumber  int      // of this member in Roles
	Roles      []uint16 // by device number: a slot, or roleSpare or more
	Features   uint32
	Resync     uint64 // sectors that are in sync, of an array that was not synced yet; neverResync: all
	FailFast   bool
}

// What is no slot in Roles.
const (
	roleSpare  = 0xffff
	roleFaulty = 0xfffe
	roleMost   = 0xff00 // higher values are no slots (MD_DISK_ROLE_MAX)
)

// Features that count here.
const (
	featureRecovery    = 1 << 1 // it was not filled completely yet
	featureReshape     = 1 << 2
	featureReplacement = 1 << 4
)

const (
	magic      = 0xa92b4efc
	superAt    = 4096 // bytes from the beginning of a member: metadata 1.2
	superBytes = 4096
	rolesAt    = 256
)

// ErrNoSuper says that a device has no superblock of version 1.2.
var ErrNoSuper = errors.New("no md superblock")

// ErrDamaged says that there is a superblock which is not whole.
var ErrDamaged = errors.New("the md superblock is damaged")

// Slot gives the member's own idea of its slot, -1 for a spare or a faulty one.
func (s Super) Slot() int { return s.SlotOf(s.DevNumber) }

// SlotOf gives the slot in which this superblock has the member with a device number; -1: in none.
func (s Super) SlotOf(number int) int {
	if number < 0 || number >= len(s.Roles) || s.Roles[number] >= roleMost || int(s.Roles[number]) >= s.RaidDisks {
		return -1
	}
	return int(s.Roles[number])
}

// Has says whether some device is in a slot.
func (s Super) Has(slot int) bool {
	for n := range s.Roles {
		if s.SlotOf(n) == slot {
			return true
		}
	}
	return false
}

// Complete says whether the member was filled completely.
func (s Super) Complete() bool { return s.Features&featureRecovery == 0 }

// Replaces says whether the member follows, or is to follow, another one in its slot.
func (s Super) Replaces() bool { return s.Features&featureReplacement != 0 }

// Filling says whether the member is being filled beside the one that it replaces: no data on it counts yet. md marks it so until it is in
// sync; the superblocks that call it complete have the other one as failed (raid10_spare_active, super_1_sync).
func (s Super) Filling() bool { return s.Replaces() && !s.Complete() }

// ParseSuper reads a superblock: the 4 KiB at superAt. It returns ErrNoSuper if there is none, ErrDamaged if its checksum is wrong.
func ParseSuper(b []byte) (Super, error) {
	le := binary.LittleEndian
	if len(b) < rolesAt || le.Uint32(b) != magic || le.Uint32(b[4:]) != 1 {
		return Super{}, ErrNoSuper
	}
	devices := int(le.Uint32(b[220:]))
	if devices < 0 || rolesAt+2*devices > len(b) || checksum(b[:rolesAt+2*devices]) != le.Uint32(b[216:]) {
		return Super{}, ErrDamaged
	}
	if le.Uint64(b[144:]) != superAt/512 {
		return Super{}, fmt.Errorf("%w: it is of another place", ErrDamaged)
	}
	s := Super{
		UUID: formatUUID(b[16:32]), Name: strings.TrimRight(unix.ByteSliceToString(b[32:64]), " "), Features: le.Uint32(b[8:]),
		Level: int(int32(le.Uint32(b[72:]))), Layout: int(le.Uint32(b[76:])), Sectors: le.Uint64(b[80:]), ChunkKiB: int(le.Uint32(b[88:]) / 2),
		RaidDisks: int(le.Uint32(b[92:])), DataOffset: le.Uint64(b[128:]), DevNumber: int(le.Uint32(b[160:])), FailFast: b[184]&2 != 0,
		Events: le.Uint64(b[200:]), Resync: le.Uint64(b[208:]),
	}
	for i := range devices {
		s.Roles = append(s.Roles, le.Uint16(b[rolesAt+2*i:]))
	}
	return s, nil
}

// checksum is calc_sb_1_csum of drivers/md/md.c.
func checksum(b []byte) uint32 {
	var sum uint64
	for i := 0; i+4 <= len(b); i += 4 {
		if i != 216 {
			sum += uint64(binary.LittleEndian.Uint32(b[i:]))
		}
	}
	if len(b)%4 == 2 {
		sum += uint64(binary.LittleEndian.Uint16(b[len(b)-2:]))
	}
	return uint32(sum) + uint32(sum>>32)
}

func formatUUID(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ReadSuper reads the superblock of a device past all caches: md writes it past them too. It may wait as long as the device does.
func ReadSuper(path string) (Super, error) {
	b, err := direct(path, superAt, superBytes)
	if err != nil {
		return Super{}, fmt.Errorf("read md superblock of %s: %w", path, err)
	}
	s, err := ParseSuper(b)
	if err != nil {
		return Super{}, fmt.Errorf("read md superblock of %s: %w", path, err)
	}
	return s, nil
}

func direct(path string, offset int64, size int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := aligned(size)
	if _, err := f.ReadAt(b, offset); err != nil {
		return nil, err
	}
	return b, nil
}

// aligned gives a buffer as O_DIRECT wants it.
func aligned(size int) []byte {
	b := make([]byte, size+superBytes)
	skip := superBytes - int(uintptr(unsafe.Pointer(&b[0]))%superBytes)
	return b[skip : skip+size]
}

// eraseSuper overwrites the superblock of a device.
func eraseSuper(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT|unix.O_SYNC|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("erase md superblock: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt(aligned(superBytes), superAt); err != nil {
		return fmt.Errorf("erase md superblock of %s: %w", path, err)
	}
	return nil
}
