// Package uevent hears what the kernel tells of by itself: devices that come, go or change (kobject uevents), and network interfaces and
// addresses (rtnetlink). So nobody need look again and again.
//
// It promises to tell at least once after each change, soon after it; several changes may be told as one, and a change that was caused by who
// listens is told too. It keeps nothing, and does not say what has changed: look. What the kernel tells nobody of, such as the state of a SCSI
// session, it cannot tell either.
package uevent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pause follows each call of changed, so that many changes at once are few calls.
	pause = 100 * time.Millisecond
	// room for one message; what is longer is cut off, which does not matter: the first lines say what it is about.
	room = 16 << 10
	// kernelGroup is the multicast group in which the kernel itself sends uevents; udev sends in another one.
	kernelGroup = 1
)

// Subsystems whose devices matter to storage.
var Subsystems = []string{"block", "infiniband", "iscsi_session", "iscsi_connection", "scsi", "scsi_host", "srp_remote_ports"}

// Devices calls changed after each change of a device of these subsystems, until ctx ends or the socket fails. It calls it once at first: what
// changed before is not told.
func Devices(ctx context.Context, subsystems []string, changed func()) error {
	return listen(ctx, unix.NETLINK_KOBJECT_UEVENT, kernelGroup, func(m []byte) bool { return about(m, subsystems) }, changed)
}

// Network calls changed after each change of a network interface or of an IPv4 address in this network namespace, as Devices does.
func Network(ctx context.Context, changed func()) error {
	return listen(ctx, unix.NETLINK_ROUTE, unix.RTMGRP_LINK|unix.RTMGRP_IPV4_IFADDR, func([]byte) bool { return true }, changed)
}

// about says whether a uevent is about a device of one of the subsystems: "action@path", and then words such as "SUBSYSTEM=block", each ended
// by a zero (lib/kobject_uevent.c).
func about(message []byte, subsystems []string) bool {
	for word := range bytes.SplitSeq(message, []byte{0}) {
		if of, ok := bytes.CutPrefix(word, []byte("SUBSYSTEM=")); ok {
			return slices.Contains(subsystems, string(of))
		}
	}
	return false
}

func listen(ctx context.Context, protocol int, groups uint32, wanted func([]byte) bool, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return fmt.Errorf("listen to the kernel: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink") // does not block, so that no thread waits in it
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("listen to the kernel: %w", err)
	}
	defer context.AfterFunc(ctx, func() { f.Close() })()
	changed()
	buf := make([]byte, room)
	for {
		n, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS): // some were lost
		case err != nil:
			return fmt.Errorf("listen to the kernel: %w", err)
		case !wanted(buf[:n]):
			continue
		}
		changed()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
