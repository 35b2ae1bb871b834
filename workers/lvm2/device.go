package lvm2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrDamaged says that there is something of LVM's on a device which is not whole, or not understood.
var ErrDamaged = errors.New("the metadata of LVM is damaged or not understood")

const (
	sector     = 512
	labels     = 4 // sectors in which the label may be
	headerSize = 512
	block      = 4096    // reads begin at and are multiples of this, so that they can bypass the page cache
	maxText    = 8 << 20 // of metadata
	maxAreas   = 16
	crcInitial = 0xf597a6cf // INITIAL_CRC of lib/misc/crc.h
)

var (
	labelID    = []byte("LABELONE")
	labelType  = []byte("LVM2 001")
	headMagic  = []byte(" LVM2 x[5A%r0N*>")
	headFormat = uint32(1)
)

// checksum is LVM's calc_crc: CRC-32 with another beginning, and without the inversions.
func checksum(b []byte) uint32 { return ^crc32.Update(^uint32(crcInitial), crc32.IEEETable, b) }

// area is a part of the device.
type area struct{ at, size uint64 }

// Read gives the volume group on a device, whose reads are multiples of 4 KiB. It is nil if there is none.
func Read(r io.ReaderAt) (*Group, error) {
	head := make([]byte, block)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("read label: %w", err)
	}
	areas, err := label(head)
	if err != nil || len(areas) == 0 {
		return nil, err
	}
	if len(areas) > 1 {
		return nil, fmt.Errorf("read label: %d areas of metadata: %w", len(areas), ErrDamaged) // we make one
	}
	text, err := metadata(r, areas[0])
	if err != nil || text == nil {
		return nil, err
	}
	return Parse(text)
}

// label finds the label, and the areas of metadata that it names; none if there is no label.
func label(head []byte) ([]area, error) {
	for i := range labels {
		b := head[i*sector : (i+1)*sector]
		if !bytes.Equal(b[:8], labelID) || !bytes.Equal(b[24:32], labelType) {
			continue
		}
		at := binary.LittleEndian.Uint32(b[20:])
		if binary.LittleEndian.Uint64(b[8:]) != uint64(i) || binary.LittleEndian.Uint32(b[16:]) != checksum(b[20:]) || at < 32 || at > sector-40 {
			return nil, fmt.Errorf("read label in sector %d: %w", i, ErrDamaged)
		}
		return areasOf(b[at:])
	}
	return nil, nil
}

// areasOf reads a pv_header: 32 bytes of id, the device's size, then two lists of areas that end with zeroes: of data, and of metadata.
func areasOf(b []byte) ([]area, error) {
	b = b[40:]
	var lists [2][]area
	for i := range lists {
		for {
			if len(b) < 16 || len(lists[i]) == maxAreas {
				return nil, fmt.Errorf("read areas: %w", ErrDamaged)
			}
			a := area{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
			b = b[16:]
			if a.at == 0 {
				break
			}
			lists[i] = append(lists[i], a)
		}
	}
	if len(lists[1]) == 0 {
		return nil, fmt.Errorf("read areas: none for metadata: %w", ErrDamaged)
	}
	return lists[1], nil
}

// metadata gives the text that an area of metadata has committed; nil if it has none. An mda_header: checksum, magic, version, its own place and
// size, then the places of texts, of which the first counts.
func metadata(r io.ReaderAt, a area) ([]byte, error) {
	if a.at%block != 0 || a.size < 2*headerSize || a.at > 1<<40 || a.size > 1<<40 {
		return nil, fmt.Errorf("read metadata: area of %d bytes at %d: %w", a.size, a.at, ErrDamaged)
	}
	b := make([]byte, block)
	if _, err := r.ReadAt(b, int64(a.at)); err != nil {
		return nil, fmt.Errorf("read header of metadata: %w", err)
	}
	h := b[:headerSize]
	if binary.LittleEndian.Uint32(h) != checksum(h[4:]) || !bytes.Equal(h[4:20], headMagic) || binary.LittleEndian.Uint32(h[20:]) != headFormat ||
		binary.LittleEndian.Uint64(h[24:]) != a.at || binary.LittleEndian.Uint64(h[32:]) != a.size {
		return nil, fmt.Errorf("read header of metadata: %w", ErrDamaged)
	}
	at, size, sum, flags := binary.LittleEndian.Uint64(h[40:]), binary.LittleEndian.Uint64(h[48:]), binary.LittleEndian.Uint32(h[56:]), binary.LittleEndian.Uint32(h[60:])
	if at == 0 || size == 0 {
		return nil, nil
	}
	if flags != 0 || at < headerSize || at >= a.size || size > a.size-headerSize || size > maxText {
		return nil, fmt.Errorf("read header of metadata: %d bytes at %d: %w", size, at, ErrDamaged)
	}
	text, err := ring(r, a, at, size)
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	if checksum(text) != sum {
		return nil, fmt.Errorf("read metadata: its checksum is another: %w", ErrDamaged)
	}
	return text, nil
}

// ring reads from an area, which goes on behind its header when it ends.
func ring(r io.ReaderAt, a area, at, size uint64) ([]byte, error) {
	first := min(size, a.size-at)
	out, err := span(r, a.at+at, first)
	if err != nil || first == size {
		return out, err
	}
	rest, err := span(r, a.at+headerSize, size-first)
	return append(out, rest...), err
}

// span reads bytes by whole blocks.
func span(r io.ReaderAt, at, size uint64) ([]byte, error) {
	from := at / block * block
	b := make([]byte, (at+size+block-1)/block*block-from)
	if _, err := r.ReadAt(b, int64(from)); err != nil {
		return nil, err
	}
	return b[at-from : at-from+size], nil
}
