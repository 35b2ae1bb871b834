package diskimage

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"cloudengine/events"
)

// The format is that of docs/interop/qcow2.rst in QEMU.
const (
	qcow2Magic = "QFI\xfb"
	offsetMask = 0x00fffffffffffe00
	compressed = 1 << 62
	reads0     = 1 // of an L2 entry: it reads as zeroes
	maxL1      = 32 << 20
)

// Incompatible features.
const (
	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureData        = 1 << 2
	featureCompression = 1 << 3
)

// qcow2 reads the disk in a qcow2 file, from its beginning to its end.
type qcow2 struct {
	f    io.ReaderAt
	size int64
	bits uint // of a cluster's size
	zip  byte // 0: deflate, 1: Zstandard
	l1   []byte
	zstd *zstd.Decoder // both are made when they are needed, and used again
	flat io.ReadCloser

	at      int64 // bytes that were read
	l2      []byte
	l2From  int64 // first byte of the disk that l2 is about; -1: none
	l2Zero  bool
	cluster []byte // at, up to the end of its cluster
	buf     []byte
}

// openQcow2 reads the header.
func openQcow2(f io.ReaderAt) (*qcow2, error) {
	h := make([]byte, 105)
	if n, err := f.ReadAt(h, 0); err != nil && (n < 72 || !errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("read header of qcow2: %w", cut(err))
	}
	u32, u64 := binary.BigEndian.Uint32, binary.BigEndian.Uint64
	version, bits, size := u32(h[4:]), u32(h[20:]), u64(h[24:])
	q := &qcow2{f: f, size: int64(size), bits: uint(bits), l2From: -1}
	switch {
	case version != 2 && version != 3:
		return nil, fmt.Errorf("qcow2 of version %d: %w", version, ErrFormat)
	case u64(h[8:]) != 0:
		return nil, fmt.Errorf("it holds only what differs from another image, its backing file: %w: make one image of both (qemu-img convert)", ErrFormat)
	case u32(h[32:]) != 0:
		return nil, fmt.Errorf("it is encrypted: %w", ErrFormat)
	case bits < 9 || bits > 21:
		return nil, fmt.Errorf("qcow2 with clusters of 2^%d bytes: %w", bits, ErrFormat)
	case size == 0 || size > MaxBytes || size%events.SectorSize != 0:
		return nil, fmt.Errorf("a disk of %d bytes: %w: want a multiple of %d up to %d", size, ErrSize, events.SectorSize, int64(MaxBytes))
	}
	if version == 3 {
		if err := q.features(u64(h[72:]), u32(h[100:]), h[104]); err != nil {
			return nil, err
		}
	}
	span := uint64(1) << (2*bits - 3) // bytes of the disk that an L1 entry is about
	need := (size + span - 1) / span * 8
	if need > maxL1 || uint64(u32(h[36:]))*8 < need {
		return nil, fmt.Errorf("qcow2 with an L1 table of %d entries for %d bytes: %w", u32(h[36:]), size, ErrFormat)
	}
	q.l1, q.l2, q.buf = make([]byte, need), make([]byte, 1<<bits), make([]byte, 1<<bits)
	if err := q.read(q.l1, u64(h[40:])); err != nil {
		return nil, fmt.Errorf("read L1 table of qcow2: %w", err)
	}
	return q, nil
}

func (q *qcow2) features(incompatible uint64, header uint32, zip byte) error {
	switch {
	case incompatible&(featureDirty|featureCorrupt) != 0:
		return fmt.Errorf("it was not closed properly, or is marked as damaged: %w: repair it (qemu-img check -r all)", ErrCut)
	case incompatible&featureData != 0:
		return fmt.Errorf("its data are in another file: %w: make one image of both (qemu-img convert)", ErrFormat)
	case incompatible&^uint64(featureCompression) != 0:
		return fmt.Errorf("it has features %#x: %w: make a plain one of it (qemu-img convert)", incompatible, ErrFormat)
	}
	if incompatible&featureCompression != 0 && header > 104 {
		q.zip = zip
	}
	if q.zip > 1 {
		return fmt.Errorf("qcow2 of compression type %d: %w", q.zip, ErrFormat)
	}
	return nil
}

// read fills b from a place of the file.
func (q *qcow2) read(b []byte, offset uint64) error {
	if offset > 1<<62 {
		return fmt.Errorf("at %d: %w", offset, ErrCut)
	}
	if _, err := q.f.ReadAt(b, int64(offset)); err != nil {
		return fmt.Errorf("at %d: %w", offset, cut(err))
	}
	return nil
}

// cut tells a file that ends too early from one that cannot be read.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}

// Read gives the next bytes of the disk.
func (q *qcow2) Read(p []byte) (int, error) {
	if q.at >= q.size {
		return 0, io.EOF
	}
	if len(q.cluster) == 0 {
		if err := q.next(); err != nil {
			return 0, fmt.Errorf("read byte %d of the disk in qcow2: %w", q.at, err)
		}
	}
	n := copy(p, q.cluster)
	q.cluster, q.at = q.cluster[n:], q.at+int64(n)
	return n, nil
}

// next reads the cluster at the present byte, which is its first.
func (q *qcow2) next() error {
	n := min(int64(1)<<q.bits, q.size-q.at)
	span := int64(1) << (2*q.bits - 3)
	if from := q.at / span * span; from != q.l2From {
		offset := binary.BigEndian.Uint64(q.l1[q.at/span*8:]) & offsetMask
		if q.l2Zero = offset == 0; !q.l2Zero {
			if err := q.read(q.l2, offset); err != nil {
				return fmt.Errorf("read L2 table %w", err)
			}
		}
		q.l2From = from
	}
	q.cluster = q.buf[:n]
	if q.l2Zero {
		clear(q.cluster)
		return nil
	}
	entry := binary.BigEndian.Uint64(q.l2[(q.at-q.l2From)>>q.bits*8:])
	switch offset := entry & offsetMask; {
	case entry&compressed != 0:
		return q.inflate(entry &^ (3 << 62))
	case entry&reads0 != 0 || offset == 0:
		clear(q.cluster)
		return nil
	default:
		return q.read(q.cluster, offset)
	}
}

// inflate unpacks a cluster.
func (q *qcow2) inflate(entry uint64) error {
	x := 62 - (q.bits - 8)
	offset := entry & (1<<x - 1)
	size := (entry>>x+1)*512 - offset%512
	packed := make([]byte, size)
	n, err := q.f.ReadAt(packed, int64(offset))
	if err != nil && !errors.Is(err, io.EOF) { // its last sector may be behind the file's end
		return err
	}
	from, err := q.unpacker(bytes.NewReader(packed[:n]))
	if err != nil {
		return fmt.Errorf("unpack a cluster: %w: %w", ErrCut, err)
	}
	if _, err := io.ReadFull(from, q.cluster); err != nil {
		return fmt.Errorf("unpack a cluster: %w: %w", ErrCut, err)
	}
	return nil
}

// unpacker gives what unpacks a cluster.
func (q *qcow2) unpacker(packed io.Reader) (io.Reader, error) {
	var err error
	switch {
	case q.zip == 1 && q.zstd == nil:
		q.zstd, err = zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
		return q.zstd, err
	case q.zip == 1:
		return q.zstd, q.zstd.Reset(packed)
	case q.flat == nil:
		q.flat = flate.NewReader(packed)
		return q.flat, nil
	}
	return q.flat, q.flat.(flate.Resetter).Reset(packed, nil) // its documentation promises that it is one
}
