package build

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// GuestSmall is the small kernel of the test guest: a PV kernel of 2 MiB (0.7 packed, against 12 of Linux with its initramfs) for a disk that is to be
// booted from where each 4 KiB are waited for. It is GRUB again, whose built-in configuration is one of ours: it says SmallSays, and waits. Nothing of
// the disk that it was loaded from is needed for that.
const GuestSmall = "small"

// SmallSays is what the small kernel says on its console.
const SmallSays = "guest: name=from-disk, the small kernel"

// What Debian's built-in configuration begins with and ends with, in the archive that is inside the program.
const (
	builtInFirst = "# First search for a suitable grub to chainload\n"
	builtInLast  = "configfile /grub/grub.cfg\nfi\n"
)

var errNoConfig = errors.New("no built-in configuration is found in it")

// smallKernel puts our configuration in the place of the one that is built into GRUB, as long as that one: its archive has no sum of what is in a file.
func smallKernel(loader []byte) ([]byte, error) {
	from := bytes.Index(loader, []byte(builtInFirst))
	if from < 0 {
		return nil, fmt.Errorf("make the small kernel of GRUB: %w", errNoConfig)
	}
	end := bytes.IndexByte(loader[from:], 0)
	ours := []byte("echo '" + SmallSays + "'\nsleep 86400\nhalt\n")
	if end < len(ours) || !bytes.HasSuffix(bytes.ReplaceAll(loader[from:from+end], []byte("\t"), nil), []byte(builtInLast)) {
		return nil, fmt.Errorf("make the small kernel of GRUB: %w", errNoConfig)
	}
	out := bytes.Clone(loader)
	n := copy(out[from:], ours)
	for i := from + n; i < from+end; i++ {
		out[i] = '\n'
	}
	return out, nil
}

// guestSmall writes the small kernel, made of the loader that PV domains boot their disks with.
func guestSmall(s *store, dest string) error {
	const pkg = "grub-xen-host"
	loader, err := os.ReadFile(filepath.Join(s.debs[pkg].root, firmware[pkg][0]))
	if err != nil {
		return fmt.Errorf("read GRUB: %w", err)
	}
	kernel, err := smallKernel(loader)
	if err != nil {
		return err
	}
	return writeIfNew(dest, kernel)
}
