// Package lio exports block devices to initiators over iSCSI and SRP with the kernel's target (LIO), by configfs alone.
//
// A Config is a whole wanted or observed state. Plan is pure and compares two of them; Observe and Apply are the edges, over Files, so that
// they can be tested without a kernel (package liotest).
//
// It promises: each step may be done again and again after a kill at any point; nothing but what it made is touched (backstores and links
// whose names begin with "ce-", targets with our iSCSI name, SRP ports with our portal group); and when the step that revokes a grant has
// returned, no command of that initiator can reach the device any more and none is under way: see revoke. It does not close sessions,
// which are left without that LUN, and it does not decide who is given what.
//
// Each grant has a LUN object of its own below the target, so that the end of one waits for the commands of its initiator and disturbs no
// other. The number under which the initiator sees it follows from the unit serial (see LUN): after a restart of the target, or when
// another device is granted in the same session, a number never means another device than before.
//
// Source: the kernel's Documentation/target, and drivers/target and drivers/infiniband/ulp/srpt of Linux 6.1.
package lio

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"

	"cloudengine/events"
	"cloudengine/workers/fabric"
)

// The transports, as documents call them.
const (
	ISCSI = events.TransportISCSI
	SRP   = events.TransportSRP
)

// States of a group (SPC-4, 5.15.2.4).
const (
	Active      = "active"
	Standby     = "standby"
	Unavailable = "unavailable"
)

// accessStates are the numbers that configfs has for them.
var accessStates = map[string]string{Active: "0", Standby: "2", Unavailable: "3"}

// Config is what is exported, or shall be.
type Config struct {
	Backstores []Backstore
	Ports      []Port
}

// Backstore is a block device that can be exported.
type Backstore struct {
	Name       string // in configfs with "ce-" before it
	Device     string // path of its node
	DevNo      string // major:minor; empty in a wanted one: whatever Device is
	UnitSerial string // hex digits
	Groups     []Group
	Ready      bool // of an observed one: it can be exported
}

// Group is a target port group of a backstore (ALUA), implicit only: initiators cannot change its state.
type Group struct {
	Name  string // in configfs with "ce-" before it
	ID    int    // 1 to 65535: another one on each machine that exports the same unit serial
	State string // Active …
}

// Port is where initiators come in.
type Port struct {
	Transport string
	Name      string   // see PortName
	Addresses []string // iSCSI: IPv4 addresses that it listens on; SRP listens on all
	Grants    []Grant
	Ready     bool // of an observed one: it listens
}

// Grant gives one backstore to one initiator. Nobody else gets anything.
type Grant struct {
	Machine   events.MachineID // whose initiator it is
	Initiator string           // see Initiator
	Backstore string
	Group     string // empty: none
	Ready     bool   // of an observed one: the initiator can reach it. If not, commands may still be under way
}

// Where things listen.
const (
	iscsiPort = "3260" // RFC 7143
	srpPort   = "5555" // our choice; srp_daemon and rdma-core's examples use it
)

// names of what we make.
const (
	prefix   = "ce-"
	hba      = "core/iblock_0"
	srpTPG   = "ce-port"
	iscsiTPG = "tpgt_1"
)

var iqnPrefix = events.InitiatorIQN("")

// Initiator names a machine's port as access control lists do: its iSCSI name, or its SRP initiator port identifier, which ib_srpt compares
// as 0x and 32 hex digits. mac is of its card on the fabric.
func Initiator(transport string, m events.MachineID, mac string) (string, error) {
	switch transport {
	case ISCSI:
		return events.InitiatorIQN(m), nil
	case SRP:
		id, err := fabric.InterfaceID(mac)
		if err != nil {
			return "", err
		}
		return "0x" + events.InitiatorSRP(m) + id, nil
	}
	return "", fmt.Errorf("name the initiator of machine %s: transport %q is not known", m, transport)
}

// LUN gives the number under which initiators see what has a unit serial. Its first word is of the flat space method (SAM-5, 4.7.7.3), so
// that it is no well-known LUN; the rest is opaque to both sides. Two serials of one machine have the same number with a chance of about
// 1 in 2^29; then the second is refused (see Plan).
func LUN(unitSerial string) uint64 {
	sum := sha256.Sum256([]byte("lun\x00" + unitSerial))
	first, second := binary.BigEndian.Uint16(sum[0:]), binary.BigEndian.Uint16(sum[2:])
	return uint64(second&0x7fff)<<16 | 0x4000 | uint64(first&0x3fff)
}

// lunObject names the LUN object of a grant. Nobody but configfs sees the number.
func lunObject(initiator, backstore string) string {
	sum := sha256.Sum256([]byte(initiator + "\x00" + backstore))
	return fmt.Sprintf("lun_%d", binary.BigEndian.Uint64(sum[:])>>2)
}

// label is the name of the link from a LUN object to its backstore: it says whose it is, even when the initiator's list is gone.
func label(g Grant) string { return prefix + string(g.Machine) + "@" + g.Initiator }

func parseLabel(name string) (m events.MachineID, initiator string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", "", false
	}
	machine, initiator, ok := strings.Cut(rest, "@")
	return events.MachineID(machine), initiator, ok
}

var errName = errors.New("a name is empty or has a character that configfs or this program gives a meaning")

func checkName(names ...string) error {
	for _, n := range names {
		if n == "" || len(n) > 200 || strings.ContainsAny(n, "/@\x00\n ") || n == "." || n == ".." {
			return fmt.Errorf("check name %q: %w", n, errName)
		}
	}
	return nil
}

// wwnDir is the directory of a port, below the target's root; groupDir that of its portal group.
func wwnDir(transport, name string) string {
	if transport == SRP {
		return path.Join("srpt", name)
	}
	return path.Join("iscsi", name)
}

func groupDir(transport, name string) string {
	if transport == SRP {
		return path.Join(wwnDir(transport, name), srpTPG)
	}
	return path.Join(wwnDir(transport, name), iscsiTPG)
}

func backstoreDir(name string) string { return path.Join(hba, prefix+name) }
