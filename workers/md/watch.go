package md

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// watched are the attributes whose change the kernel tells of (sysfs_notify): below md/, of all arrays. A loss of the last good copy of a set
// is told at the member's state alone.
var watched = []string{"array_state", "degraded", "dev-*/state"}

// Wait returns when the kernel tells of a change of any array, after most at the latest, or when ctx ends. What changed before the call is not
// waited for: look at the arrays between two calls. root is "" for the real /sys.
func Wait(ctx context.Context, root string, most time.Duration) error {
	var fds []unix.PollFd
	for _, name := range watched {
		paths, err := filepath.Glob(filepath.Join(root, "/sys/block/md*/md", name))
		if err != nil {
			return fmt.Errorf("list attributes of md: %w", err)
		}
		for _, p := range paths {
			f, err := os.Open(p)
			if err != nil {
				continue // it went away meanwhile
			}
			defer f.Close()
			if _, err := f.Read(make([]byte, 256)); err == nil { // from here on a change is told
				fds = append(fds, unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLPRI | unix.POLLERR})
			}
		}
	}
	const slice = 100 * time.Millisecond // how long the end of ctx goes unnoticed
	for end := time.Now().Add(most); ctx.Err() == nil && time.Now().Before(end); {
		n, err := unix.Poll(fds, int(min(slice, time.Until(end)+time.Millisecond).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for md: %w", err)
		}
		if n > 0 {
			return ctx.Err()
		}
	}
	return ctx.Err()
}
