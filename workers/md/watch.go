package md

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watched are the attributes whose change the kernel tells of (sysfs_notify): below md/, of all arrays. A loss of the last good copy of a set
// is told at the member's state alone.
var watched = []string{stateFile, "degraded", "dev-*/state"}

const stateFile = "array_state"

// attribute is one that is watched.
type attribute struct {
	fd   int
	name string // of its file
	said string // when it was read last
}

// read reads the attribute, from which on a change is told, and says whether it says something else than before. Between clean and active an array
// goes with each write after a pause: all states in which it serves are one.
func (a *attribute) read() (changed bool, err error) {
	var buf [256]byte
	n, err := unix.Pread(a.fd, buf[:], 0)
	if err != nil {
		return true, err
	}
	said := strings.TrimSpace(string(buf[:n]))
	if a.name == stateFile && slices.Contains(serving, said) {
		said = serving[0]
	}
	changed, a.said = said != a.said, said
	return changed, nil
}

// Wait returns when the kernel tells of a change of any array, after most at the latest, or when ctx ends. What changed before the call is not
// waited for: look at the arrays between two calls. That an array begins or ends to be written is no change. root is "" for the real /sys.
func Wait(ctx context.Context, root string, most time.Duration) error {
	attributes, err := watchedNow(root)
	defer func() {
		for _, a := range attributes {
			_ = unix.Close(a.fd) // it was only read
		}
	}()
	if err != nil {
		return err
	}
	end, free, err := endOf(ctx)
	if err != nil {
		return err
	}
	defer free()
	fds := []unix.PollFd{{Fd: int32(end), Events: unix.POLLIN}}
	for _, a := range attributes {
		fds = append(fds, unix.PollFd{Fd: int32(a.fd), Events: unix.POLLPRI | unix.POLLERR})
	}
	for until := time.Now().Add(most); ctx.Err() == nil; {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		n, err := unix.Poll(fds, int((left + time.Millisecond).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for md: %w", err)
		}
		for i := range attributes {
			if n <= 0 || fds[i+1].Revents == 0 {
				continue
			}
			if changed, err := attributes[i].read(); changed || err != nil {
				return ctx.Err() // one that cannot be read any more has gone, which is a change
			}
		}
	}
	return ctx.Err()
}

// watchedNow opens and reads the attributes that there are now.
func watchedNow(root string) (out []*attribute, err error) {
	for _, name := range watched {
		paths, err := filepath.Glob(filepath.Join(root, "/sys/block/md*/md", name))
		if err != nil {
			return out, fmt.Errorf("list attributes of md: %w", err)
		}
		for _, p := range paths {
			fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue // it went away meanwhile
			}
			a := &attribute{fd: fd, name: filepath.Base(p)}
			if _, err := a.read(); err != nil {
				_ = unix.Close(fd) // it goes away
				continue
			}
			out = append(out, a)
		}
	}
	return out, nil
}

// endOf gives a file that can be read once ctx has ended, and a function that frees it.
func endOf(ctx context.Context) (fd int, free func(), err error) {
	fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return 0, nil, fmt.Errorf("wait for md: %w", err)
	}
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // a counter that is 0 takes it
	})
	return fd, func() {
		if !stop() {
			<-told
		}
		_ = unix.Close(fd)
	}, nil
}
