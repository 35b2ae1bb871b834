package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// modules are the drivers of paravirtual disks and NICs, which Debian's kernel has as modules; without them the guest has none.
var modules = []string{"/xen-blkfront.ko", "/xen-netfront.ko"}

const (
	blockSize = 4096
	// region is what is exercised of a disk, in bytes from its start.
	region = 16 << 20
	// readSize is what is read at once when an earlier guest's blocks are counted.
	readSize = 1 << 20
	// diskMagic marks a block that a guest has written.
	diskMagic = 0x6365677565737464
)

// loadDrivers loads those drivers that the guest has.
func loadDrivers() {
	for _, m := range modules {
		f, err := os.Open(m)
		if err != nil {
			continue
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
			fmt.Printf("guest: load %s: %v\n", m, err)
		}
		_ = f.Close()
	}
}

// disks says which disks the guest has, and their sizes in bytes.
func disks(sys string) string {
	var found []string
	for _, dir := range glob(sys + "/block/xvd*") {
		var sectors int64
		if _, err := fmt.Sscan(read(dir+"/size"), &sectors); err == nil {
			found = append(found, fmt.Sprintf("%s=%d", filepath.Base(dir), sectors*512))
		}
	}
	return "guest: disks " + strings.Join(found, " ") + "\n"
}

// exercise writes blocks to a disk and reads them back, for ever. A disk that fails is used again as long as it is there.
type exercise struct {
	f      *os.File
	blocks int64
	salt   uint64   // of this guest's run: what an earlier one wrote is not taken for its own
	held   []uint64 // number of the write that each block holds, from 1; 0: not known
	n      uint64   // writes that were tried
	buf    []byte   // aligned as direct access needs it

	mu    sync.Mutex
	tally tally
}

// tally is what came of it.
type tally struct {
	writes, errors, bad int
	longest             time.Duration // of one write or read that ended since it was last told
}

// startDisk exercises a disk until the guest ends, and says at each tick what came of it.
func startDisk(name string) {
	e, err := newExercise(filepath.Join("/dev", name), unix.O_DIRECT|unix.O_SYNC)
	if err != nil {
		fmt.Printf("guest: disk %s: %v\n", name, err)
		return
	}
	fmt.Printf("guest: disk %s holds=%d\n", name, e.countValid())
	go func() {
		for {
			time.Sleep(tick)
			fmt.Printf("guest: disk %s %s\n", name, e.told())
		}
	}()
	for {
		if err := e.step(); err != nil {
			fmt.Printf("guest: disk %s: %v\n", name, err)
			time.Sleep(time.Second)
		}
	}
}

// awaitDisk uses a disk that may appear a moment after the driver was loaded.
func awaitDisk(name string, use func(name string)) {
	const patience = 30 // seconds
	for range patience {
		if _, err := os.Stat(filepath.Join("/dev", name)); err == nil {
			use(name)
			return
		}
		time.Sleep(time.Second)
	}
	fmt.Printf("guest: disk %s: there is none\n", name)
}

func newExercise(path string, flags int) (*exercise, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	buf, err := unix.Mmap(-1, 0, readSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	blocks := min(size, region) / blockSize
	if blocks == 0 {
		return nil, fmt.Errorf("it has only %d bytes", size)
	}
	return &exercise{f: f, blocks: blocks, salt: rand.Uint64(), held: make([]uint64, blocks), buf: buf}, nil
}

// step writes one block, and reads one back that was written earlier.
func (e *exercise) step() error {
	e.n++
	at := int64(e.n*7919) % e.blocks
	block := e.buf[:blockSize]
	fill(block, e.salt, uint64(at), e.n)
	e.held[at] = 0 // until it is known what the disk holds
	began := time.Now()
	_, err := e.f.WriteAt(block, at*blockSize)
	e.note(began, err, false)
	if err != nil {
		return err
	}
	e.held[at] = e.n
	back := rand.Int64N(e.blocks)
	if e.held[back] == 0 {
		back = at
	}
	began = time.Now()
	if _, err = e.f.ReadAt(block, back*blockSize); err != nil {
		e.note(began, err, false)
		return err
	}
	salt, place, n, ok := parse(block)
	bad := !ok || salt != e.salt || place != uint64(back) || n != e.held[back]
	e.note(began, nil, bad)
	if bad {
		return fmt.Errorf("block %d holds write %d of run %x at %d (whole: %v), not write %d of run %x", back, n, salt, place, ok, e.held[back], e.salt)
	}
	return nil
}

// note counts what came of one access.
func (e *exercise) note(began time.Time, err error, bad bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tally.longest = max(e.tally.longest, time.Since(began))
	e.tally.writes = int(e.n)
	if err != nil {
		e.tally.errors++
	}
	if bad {
		e.tally.bad++
	}
}

// told says what came of it. The longest access counts from one telling to the next.
func (e *exercise) told() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() { e.tally.longest = 0 }()
	return fmt.Sprintf("writes=%d errors=%d bad=%d longest_ms=%d", e.tally.writes, e.tally.errors, e.tally.bad, e.tally.longest.Milliseconds())
}

// countValid counts the blocks that a guest, this or an earlier one, has written and that are whole and where they belong.
func (e *exercise) countValid() int {
	valid := 0
	for at := int64(0); at < e.blocks; {
		n := min(int64(len(e.buf))/blockSize, e.blocks-at)
		if _, err := e.f.ReadAt(e.buf[:n*blockSize], at*blockSize); err != nil {
			fmt.Printf("guest: read %s: %v\n", e.f.Name(), err)
			return valid
		}
		for i := range n {
			if _, place, _, ok := parse(e.buf[i*blockSize : (i+1)*blockSize]); ok && place == uint64(at+i) {
				valid++
			}
		}
		at += n
	}
	return valid
}

// fill makes the block of one write: who wrote it, where, and text that follows from that, with a checksum at the end.
func fill(block []byte, salt, at, n uint64) {
	for i, v := range []uint64{diskMagic, salt, at, n} {
		binary.LittleEndian.PutUint64(block[8*i:], v)
	}
	x := salt ^ at<<32 ^ n | 1
	for i := 32; i+8 <= len(block); i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(block[i:], x)
	}
	binary.LittleEndian.PutUint32(block[len(block)-4:], crc32.ChecksumIEEE(block[:len(block)-4]))
}

// parse reads such a block; ok is false if it is not one, or not whole.
func parse(block []byte) (salt, at, n uint64, ok bool) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(block[8*i:]) }
	sum := binary.LittleEndian.Uint32(block[len(block)-4:])
	return word(1), word(2), word(3), word(0) == diskMagic && sum == crc32.ChecksumIEEE(block[:len(block)-4])
}
