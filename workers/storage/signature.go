package storage

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
)

// Signature is what was found on a disk.
type Signature struct {
	Type  string // as blkid(8) calls it; empty: nothing was found
	Array string // of linux_raid_member: the array's UUID, 32 hex digits
}

// raidMember is the type of md's members.
const raidMember = "linux_raid_member"

// How much of a disk's beginning and end is read, in bytes. Everything that is looked for lies within.
const (
	headBytes = 256 << 10
	tailBytes = 128 << 10
	aligned   = 4096 // reads begin at and are multiples of this, so that they can bypass the page cache
)

// ReadSignature looks for the mark of a known user in the beginning and the end of a disk of size bytes. r must take reads at multiples of
// 4096. What is not known is not found: that a disk has no signature does not mean that it is empty.
func ReadSignature(r io.ReaderAt, size int64) (Signature, error) {
	head := make([]byte, min(headBytes, size))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return Signature{}, fmt.Errorf("read the beginning of a disk: %w", err)
	}
	start := max(0, size-tailBytes) &^ (aligned - 1)
	tail := make([]byte, size-start)
	if _, err := r.ReadAt(tail, start); err != nil && err != io.EOF {
		return Signature{}, fmt.Errorf("read the end of a disk: %w", err)
	}
	return find(image{head, tail, size, start}), nil
}

// image is what was read of a disk.
type image struct {
	head, tail  []byte
	size, start int64 // of the disk; where tail begins
}

// at gives n bytes at an offset of the disk, nil if they were not read.
func (i image) at(offset int64, n int) []byte {
	switch {
	case offset >= 0 && offset+int64(n) <= int64(len(i.head)):
		return i.head[offset : offset+int64(n)]
	case offset >= i.start && offset+int64(n) <= i.size:
		return i.tail[offset-i.start : offset-i.start+int64(n)]
	}
	return nil
}

func (i image) has(offset int64, magic string) bool {
	return bytes.Equal(i.at(offset, len(magic)), []byte(magic))
}

// find looks for what uses whole disks first, for partition tables and file systems then. A disk can have marks of several; the first
// counts.
func find(i image) Signature {
	if s, ok := findRAID(i); ok {
		return s
	}
	for _, m := range magics {
		if i.has(m.offset, m.magic) {
			return Signature{Type: m.name}
		}
	}
	for _, size := range []int64{512, 4096} {
		if i.has(size, "EFI PART") || i.has(i.size-size, "EFI PART") {
			return Signature{Type: "gpt"}
		}
	}
	if t := findExt(i); t != "" {
		return Signature{Type: t}
	}
	for o := int64(128 << 10); o < 256<<10; o += 1024 { // ZFS's ring of uberblocks, in either byte order
		if i.has(o, "\x0c\xb1\xba\x00\x00\x00\x00\x00") || i.has(o, "\x00\x00\x00\x00\x00\xba\xb1\x0c") {
			return Signature{Type: "zfs_member"}
		}
	}
	if i.has(510, "\x55\xaa") {
		return Signature{Type: "dos"}
	}
	return Signature{}
}

// magics are marks at fixed places, by the documentation of each.
var magics = []struct {
	offset int64
	magic  string
	name   string
}{
	{0, "LUKS\xba\xbe", "crypto_LUKS"},
	{24, "LVM2 001", "LVM2_member"}, {512 + 24, "LVM2 001", "LVM2_member"},
	{1024 + 24, "LVM2 001", "LVM2_member"}, {1536 + 24, "LVM2 001", "LVM2_member"},
	{4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "bcache"},
	{0, "bluestore block device", "ceph_bluestore"},
	{0, "XFSB", "xfs"},
	{64<<10 + 64, "_BHRfS_M", "btrfs"},
	{4096 - 10, "SWAPSPACE2", "swap"}, {4096 - 10, "SWAP-SPACE", "swap"}, {64<<10 - 10, "SWAPSPACE2", "swap"},
	{32769, "CD001", "iso9660"},
	{3, "NTFS    ", "ntfs"},
	{54, "FAT", "vfat"}, {82, "FAT32", "vfat"},
}

// findRAID looks for md's superblock where each version of it lies (md(4), include/uapi/linux/raid/md_p.h).
func findRAID(i image) (Signature, bool) {
	const magic = "\xfc\x4e\x2b\xa9"
	for _, offset := range []int64{4096, 0, (i.size/512 - 16) &^ 7 * 512} { // 1.2, 1.1, 1.0
		if i.has(offset, magic+"\x01\x00\x00\x00") {
			return Signature{Type: raidMember, Array: hex.EncodeToString(i.at(offset+16, 16))}, true
		}
	}
	old := i.size&^(64<<10-1) - 64<<10 // 0.90: in the last 64 KiB that are aligned
	if i.has(old, magic) {
		return Signature{Type: raidMember}, true
	}
	return Signature{}, false
}

// findExt tells ext2, ext3 and ext4 apart by features that the older ones do not have (Documentation/filesystems/ext4/super.rst).
func findExt(i image) string {
	const (
		hasJournal    = 0x4
		ext3Incompat  = 0x2 | 0x4 | 0x8 | 0x10 // filetype, recover, journal device, meta_bg
		ext3ROCompat  = 0x1 | 0x2 | 0x4        // sparse super, large file, btree dir
		superblock    = 1024
		magicOffset   = 0x38
		featureOffset = 0x5c
	)
	f := i.at(superblock+featureOffset, 12)
	if !i.has(superblock+magicOffset, "\x53\xef") || f == nil {
		return ""
	}
	compat, incompat, ro := binary.LittleEndian.Uint32(f), binary.LittleEndian.Uint32(f[4:]), binary.LittleEndian.Uint32(f[8:])
	switch {
	case incompat&^ext3Incompat != 0 || ro&^ext3ROCompat != 0:
		return "ext4"
	case compat&hasJournal != 0:
		return "ext3"
	}
	return "ext2"
}
