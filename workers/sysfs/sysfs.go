// Package sysfs reads attributes of the kernel: of sysfs, configfs and control groups.
//
// os.ReadFile takes nine system calls for one, among them one that registers the file with the runtime's poller, which finds it ready and wakes
// a thread. Read takes three: agents read hundreds of attributes again and again, below a hypervisor, where each call costs.
package sysfs

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// room is what one attribute of sysfs can hold at most: a page. It is also what is read at once of anything longer.
const room = 4096

// Read gives an attribute without white space at its ends. Errors are those of os.ReadFile.
func Read(path string) (string, error) {
	b, err := ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// ReadFile gives a file that the kernel makes in one piece: one that is read short is at its end. So it is for no other files, nor for long
// ones of /proc.
func ReadFile(path string) ([]byte, error) {
	fd, err := again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var page [room]byte
	var out []byte
	for {
		n, err := again(func() (int, error) { return unix.Read(fd, page[:]) })
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		out = append(out, page[:n]...)
		if n < len(page) {
			return out, nil
		}
	}
}

// again calls f again when a signal has cut it off.
func again(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
