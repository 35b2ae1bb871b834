package seed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cloudengine/workers/sysfs"
)

// kernel is the loop devices of this machine (loop(4)).
type kernel struct{}

const (
	blockDir    = "/sys/block"
	loopControl = "/dev/loop-control"
	// deletedMark is what the kernel puts behind the path of a file that is not there any more.
	deletedMark = " (deleted)"
	// attempts bounds how often a device that was free is found taken by somebody else.
	attempts = 16
)

// List reads sysfs. A device that loses its file meanwhile is left out.
func (kernel) List() ([]Loop, error) {
	dirs, err := filepath.Glob(blockDir + "/loop[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var out []Loop
	for _, dir := range dirs {
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "loop"))
		if err != nil {
			continue
		}
		var text [3]string
		for i, file := range []string{"loop/backing_file", "dev", "ro"} {
			b, err := sysfs.ReadFile(filepath.Join(dir, file))
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
				break // it has no file
			}
			if err != nil {
				return nil, fmt.Errorf("read loop device %d: %w", number, err)
			}
			text[i] = strings.TrimSuffix(string(b), "\n")
		}
		if text[0] == "" || text[2] == "" {
			continue
		}
		file, deleted := strings.CutSuffix(text[0], deletedMark)
		l := Loop{Number: number, File: file, Deleted: deleted, ReadOnly: text[2] == "1"}
		if _, err := fmt.Sscanf(text[1], "%d:%d", &l.Major, &l.Minor); err != nil {
			return nil, fmt.Errorf("read number of loop device %d: %w", number, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Attach makes the first free device one of the file.
func (kernel) Attach(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("attach loop device: %w", err)
	}
	defer file.Close()
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("attach loop device: %w", err)
	}
	defer control.Close()
	for range attempts {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return fmt.Errorf("find a free loop device: %w", err)
		}
		if err = configure(number, file); err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return fmt.Errorf("attach loop device to %s: each free one was taken %d times", path, attempts)
}

func configure(number int, file *os.File) error {
	dev, err := os.Open(Loop{Number: number}.Path())
	if err != nil {
		return fmt.Errorf("open loop device: %w", err)
	}
	defer dev.Close()
	c := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY}}
	copy(c.Info.File_name[:len(c.Info.File_name)-1], file.Name())
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &c); err != nil {
		return fmt.Errorf("configure loop device %d: %w", number, err)
	}
	return nil
}

// Detach takes the device from its file.
func (kernel) Detach(number int) error {
	dev, err := os.Open(Loop{Number: number}.Path())
	if err != nil {
		return fmt.Errorf("open loop device: %w", err)
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach loop device %d: %w", number, err)
	}
	return nil
}
