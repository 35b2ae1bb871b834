package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Load is made by reading so much at once, so many times side by side: a limit of the disk is reached, and not the guest's own pace.
const (
	loadSize  = 256 << 10
	loadDepth = 4
)

// load reads the beginning of a disk as fast as it can, past all caches, until the guest ends, and says at each tick how much that was.
func load(name string) {
	f, err := os.OpenFile(filepath.Join("/dev", name), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		fmt.Printf("guest: load %s: %v\n", name, err)
		return
	}
	var read atomic.Int64
	for i := range loadDepth {
		go func() {
			if err := readRegion(f, int64(i)*(region/loadDepth), &read); err != nil {
				fmt.Printf("guest: load %s: %v\n", name, err)
			}
		}()
	}
	last := time.Now()
	for {
		time.Sleep(tick)
		now := time.Now()
		fmt.Printf("guest: load %s read=%d ms=%d\n", name, read.Swap(0), now.Sub(last).Milliseconds())
		last = now
	}
}

// readRegion reads one part of a disk again and again.
func readRegion(f *os.File, from int64, read *atomic.Int64) error {
	buf, err := unix.Mmap(-1, 0, loadSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	for at := int64(0); ; at = (at + loadSize) % (region / loadDepth) {
		n, err := f.ReadAt(buf, from+at)
		if err != nil {
			return err
		}
		read.Add(int64(n))
	}
}
