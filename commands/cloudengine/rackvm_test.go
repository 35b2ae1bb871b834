package main

import "testing"

func TestGuestSpoke(t *testing.T) {
	for console, want := range map[string]bool{
		"":                                    false,
		"[    1.0] Run /init as init process": false,
		"guest: I am name=web1 vm=1":          true,
		"uptime=970.08 vcpus=0\nguest: disks \nguest: tick 97 name=web1": true, // it has run for long: the beginning is gone
		"[    2.0] no init found. guest: I":                              false,
	} {
		if got := guestSpoke(console); got != want {
			t.Errorf("%q: %t, want %t", console, got, want)
		}
	}
}
