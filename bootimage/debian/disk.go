package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Names of the results.
const (
	diskName     = "disk.img"
	packedName   = "disk.img.zst"
	manifestName = "manifest.json"
)

const (
	sectorSize     = 512
	firstSector    = 2048 // of the partition: 1 MiB, as all tools align it
	partitionLinux = 0x83
)

// disk makes the image: a partition table (MBR), and in its only partition the root file system, filled as it is made (mke2fs -d).
func (b *builder) disk(ctx context.Context, root string) error {
	b.say("making the file system")
	path := filepath.Join(b.out, diskName)
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	sectors := uint32(b.size) << 20 / sectorSize
	_, err = f.WriteAt(partitionTable(root, sectors), 0)
	if err := errors.Join(err, f.Truncate(int64(b.size)<<20), f.Close()); err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	// What GRUB 2.06 cannot read is left out, whatever this machine's mke2fs makes by default.
	_, err = command(ctx, "mke2fs", "-q", "-t", "ext4", "-L", "debian", "-U", root, "-m", "1", "-O", "^metadata_csum_seed,^orphan_file",
		"-E", "offset="+strconv.Itoa(firstSector*sectorSize)+",root_owner=0:0,hash_seed="+root, "-d", b.tree,
		path, strconv.Itoa((b.size<<10)-firstSector*sectorSize>>10)+"k")
	return err
}

// partitionTable gives the first sector of the disk. Its identifier is of the root file system's, so that equal images have equal ones.
func partitionTable(root string, sectors uint32) []byte {
	b := make([]byte, sectorSize)
	id := sha256.Sum256([]byte("disk " + root))
	copy(b[440:], id[:4])
	entry := b[446:]
	entry[0] = 0x80                           // active: for a BIOS that would boot it
	copy(entry[1:], []byte{0xfe, 0xff, 0xff}) // begin and end by cylinder, which
	copy(entry[5:], []byte{0xfe, 0xff, 0xff}) // nobody reads: "beyond"
	entry[4] = partitionLinux
	binary.LittleEndian.PutUint32(entry[8:], firstSector)
	binary.LittleEndian.PutUint32(entry[12:], sectors-firstSector)
	b[510], b[511] = 0x55, 0xaa
	return b
}
