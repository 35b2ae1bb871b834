// Package netspace does things in another network namespace of this machine. What it opens there stays there and can be used from
// everywhere; no other goroutine of the program is ever inside.
package netspace

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inside calls f on a thread that is in the namespace whose file is path (as /run/netns/NAME). The thread ends with f, and goroutines that f
// starts are not inside. An empty path is the namespace that the program is in.
func Inside(path string, f func() error) error {
	if path == "" {
		return f()
	}
	done := make(chan error, 1)
	go onOwnThread(func() { done <- enter(path, f) })
	return <-done
}

// onOwnThread calls f on a thread that ends with it. It is never the program's first thread: that one cannot end, and with it in the
// namespace the whole program would count as inside.
func onOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f() // never unlocked: the thread ends with this goroutine
		return
	}
	done := make(chan struct{})
	go func() { // the first thread is held meanwhile, so this is another
		defer close(done)
		onOwnThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

func enter(path string, f func() error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return f()
}

// ListenUDP opens a UDP socket on all addresses of one device. network is "udp4" or "udp6". It must be called inside. More is done with the
// socket before it has its port.
func ListenUDP(network, device string, port int, more ...func(fd int) error) (*net.UDPConn, error) {
	conn, err := on(device, more).ListenPacket(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", device, err)
	}
	return conn.(*net.UDPConn), nil
}

// ListenTCP opens a TCP socket on all addresses of one device. network is "tcp4" or "tcp6". It must be called inside.
func ListenTCP(network, device string, port int) (net.Listener, error) {
	l, err := on(device, nil).Listen(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", device, err)
	}
	return l, nil
}

// on binds sockets to a device before they have a port.
func on(device string, more []func(fd int) error) *net.ListenConfig {
	return &net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.BindToDevice(int(fd), device)
			for _, f := range more {
				if failed == nil {
					failed = f(int(fd))
				}
			}
		})
		if err != nil {
			return err
		}
		return failed
	}}
}
