package dm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Events hears of the events of all devices: a path of a multipath map that the kernel fails or is told to take again, a device that is made or
// removed. Reads and writes are none. One goroutine may use it.
type Events struct {
	f   *os.File
	buf []byte
}

// Listen begins to listen. Since Linux 4.13.
func Listen() (*Events, error) {
	f, err := os.OpenFile(Path(unix.DM_CONTROL_NODE), os.O_RDWR|unix.O_NONBLOCK, 0) // so that the runtime waits, and no thread
	if err != nil {
		return nil, fmt.Errorf("open device-mapper: %w", err)
	}
	e := &Events{f: f}
	if e.buf, err = encodeRequest(request{}, unix.SizeofDmIoctl); err == nil {
		err = e.Arm()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to device-mapper: %w", err), f.Close())
	}
	return e, nil
}

// Close ends listening.
func (e *Events) Close() error { return e.f.Close() }

// Arm forgets the events until now: the next Wait ends with the first one after it. So look at devices between Arm and Wait.
func (e *Events) Arm() error {
	return e.with(func(fd uintptr) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.DM_DEV_ARM_POLL, uintptr(unsafe.Pointer(&e.buf[0]))); errno != 0 {
			return fmt.Errorf("arm events of device-mapper: %w", errno)
		}
		return nil
	})
}

func (e *Events) with(do func(fd uintptr) error) error {
	raw, err := e.f.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) { err = do(fd) }), err)
}

// Wait ends at an event since Arm, which it says, after most, or when ctx ends, which is the error then.
func (e *Events) Wait(ctx context.Context, most time.Duration) (bool, error) {
	if err := e.f.SetReadDeadline(time.Now().Add(most)); err != nil {
		return false, fmt.Errorf("wait for device-mapper: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = e.f.SetReadDeadline(time.Unix(1, 0)) })()
	raw, err := e.f.SyscallConn()
	if err != nil {
		return false, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, errno := unix.Poll(fds, 0)
		if errno != nil && !errors.Is(errno, unix.EINTR) {
			failed = errno
		}
		return n > 0 || failed != nil
	})
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case failed != nil:
		return false, fmt.Errorf("wait for device-mapper: %w", failed)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("wait for device-mapper: %w", err)
	}
	return true, nil
}
