// Package filesystem tells how full the file system of a directory is, as df does (statvfs(3)): what only root or other users of the
// disk may have counts neither as used nor as free. It changes nothing.
package filesystem

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Room is what a file system has for its users, in bytes.
type Room struct{ Used, Free int64 }

// RoomOf looks at the file system that a directory is on. It may be called by several at once.
func RoomOf(dir string) (Room, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Room{}, fmt.Errorf("look how full the disk of %s is: %w", dir, err)
	}
	r := roomOf(st)
	if r.Size() <= 0 {
		return Room{}, fmt.Errorf("look how full the disk of %s is: %w", dir, unix.ENODATA)
	}
	return r, nil
}

func roomOf(st unix.Statfs_t) Room {
	return Room{Used: int64(st.Blocks-st.Bfree) * st.Bsize, Free: int64(st.Bavail) * st.Bsize}
}

// Size is what users could have of an empty one.
func (r Room) Size() int64 { return r.Used + r.Free }

// Share is how much of it is used, 0 to 1.
func (r Room) Share() float64 { return float64(r.Used) / float64(r.Size()) }
