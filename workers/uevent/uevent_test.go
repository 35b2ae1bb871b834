package uevent

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestAbout(t *testing.T) {
	const message = "change@/devices/virtual/block/dm-0\x00ACTION=change\x00DEVPATH=/devices/virtual/block/dm-0\x00SUBSYSTEM=block\x00MAJOR=253\x00"
	if !about([]byte(message), Subsystems) || about([]byte(message), []string{"net"}) {
		t.Error("the message is about a block device")
	}
	for _, m := range []string{"", "add@/x", "libudev\x00\x01\x02"} {
		if about([]byte(m), Subsystems) {
			t.Errorf("%q is about no device", m)
		}
	}
}

// TestListen: it tells of what was before it listened, and ends with its context although nothing happens.
func TestListen(t *testing.T) {
	for name, of := range map[string]func(context.Context, func()) error{
		"devices": func(ctx context.Context, changed func()) error { return Devices(ctx, nil, changed) }, "network": Network,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			told, ended := make(chan struct{}, 100), make(chan error, 1)
			go func() { ended <- of(ctx, func() { told <- struct{}{} }) }()
			wait(t, told, ended)
			cancel()
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it does not end")
			}
		})
	}
}

func wait(t *testing.T, told chan struct{}, ended chan error) {
	t.Helper()
	select {
	case <-told:
	case err := <-ended:
		t.Fatalf("it has ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("it does not begin")
	}
}
