package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attack sends, for ever, what a guest should not: it says by ARP that addresses are its own, answers DHCP, advertises itself as a router, tags
// frames, and sends from addresses and MACs of others. victims are addresses, with commas between them.
func attack(victims string) {
	err := flags(card, unix.IFF_UP)
	var i *net.Interface
	if err == nil {
		i, err = net.InterfaceByName(card)
	}
	if err != nil {
		fmt.Printf("guest: attack: %v\n", err)
		return
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Printf("guest: attack: %v\n", err)
		return
	}
	to := &unix.SockaddrLinklayer{Ifindex: i.Index}
	for n := 1; ; n++ {
		sent := 0
		for _, victim := range strings.Split(victims, ",") {
			for _, f := range hostile(i.HardwareAddr, net.ParseIP(victim).To4()) {
				if err := unix.Sendto(fd, f, 0, to); err == nil {
					sent++
				}
			}
		}
		if n%50 == 1 {
			fmt.Printf("guest: attack %d sent %d frames\n", n, sent)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// hostile gives frames that must not leave the guest.
func hostile(mac net.HardwareAddr, victim net.IP) [][]byte {
	everybody := []byte{255, 255, 255, 255, 255, 255}
	join := func(parts ...[]byte) []byte {
		var out []byte
		for _, p := range parts {
			out = append(out, p...)
		}
		return append(out, make([]byte, max(0, 60-len(out)))...)
	}
	claim := []byte{0, 1, 8, 0, 6, 4, 0, 2}
	udp := func(src, dst net.IP, from, to byte) []byte {
		return join([]byte{0x45, 0, 0, 36, 0, 1, 0, 0, 64, 17, 0, 0}, src, dst, []byte{0, from, 0, to, 0, 16, 0, 0}, []byte("attacked"))
	}
	other := append(net.HardwareAddr(nil), mac...)
	other[5] ^= 0x55
	return [][]byte{
		join(everybody, mac, []byte{8, 6}, claim, mac, victim, everybody, victim),
		join(everybody, other, []byte{8, 6}, claim, other, victim, everybody, victim),
		join(everybody, mac, []byte{8, 0}, udp(victim, net.IPv4bcast.To4(), 67, 68)),
		join(everybody, mac, []byte{8, 0}, udp(victim, victim, 7, 7)),
		join(everybody, mac, []byte{0x81, 0, 0, 5, 8, 0}, udp(victim, victim, 7, 7)),
		join([]byte{0x33, 0x33, 0, 0, 0, 1}, mac, []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 58, 255, 0xfe, 0x80}, make([]byte, 13), []byte{1},
			[]byte{0xff, 2}, make([]byte, 13), []byte{1, 134, 0, 0, 0, 64, 0, 7, 8}, make([]byte, 8)),
	}
}
