// Package reserve speaks SCSI persistent reservations (SPC-4, 5.12, 6.15 and 6.16): it makes commands, reads answers, and says which
// command comes next so that one initiator alone reaches a unit. Only
// Take sends something, by what it is given.
//
// The reservation is Exclusive Access: who does not hold it can neither read nor write, so an owner that lost it serves nothing old. A key
// is made of an array, the epoch of its owner and the boot of that: the next owner preempts the former's and aborts its commands, and no owner
// preempts one with a higher epoch.
//
// Source: SPC-4 (INCITS 513), and drivers/target/target_core_pr.c of Linux 6.1.
package reserve

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Type is a type of reservation as commands have it; the kernel's ioctls number them otherwise.
type Type byte

// The types that matter here (SPC-4, table 61).
const (
	WriteExclusive  Type = 1
	ExclusiveAccess Type = 3
)

// Action is a service action of PERSISTENT RESERVE OUT (SPC-4, table 222).
type Action byte

// The service actions of PERSISTENT RESERVE OUT.
const (
	Register          Action = 0
	Reserve           Action = 1
	PreemptAndAbort   Action = 5
	RegisterAndIgnore Action = 6 // whatever key this initiator had
)

const (
	opIn  = 0x5e
	opOut = 0x5f

	readKeys        = 0
	readReservation = 1

	listLength = 24 // of PERSISTENT RESERVE OUT without transport ids
	headLength = 8  // of each answer
)

// Out is one PERSISTENT RESERVE OUT.
type Out struct {
	Action Action
	Type   Type
	Key    Key // that this initiator is registered with; ignored by RegisterAndIgnore
	Other  Key // to be registered (0: none any more), or to be preempted
}

// Encode gives the command and its parameter list. The reservation does not outlive the target's power: a node exports nothing after a boot
// before it is told.
func (o Out) Encode() (cdb, list []byte) {
	cdb, list = make([]byte, 10), make([]byte, listLength)
	cdb[0], cdb[1], cdb[2] = opOut, byte(o.Action)&0x1f, byte(o.Type)&0xf // scope 0: the whole unit
	binary.BigEndian.PutUint32(cdb[5:], listLength)
	binary.BigEndian.PutUint64(list, uint64(o.Key))
	binary.BigEndian.PutUint64(list[8:], uint64(o.Other))
	return cdb, list
}

// ReadKeys and ReadReservation give PERSISTENT RESERVE IN for an answer of at most n bytes, from headLength to 65535.
func ReadKeys(n int) []byte { return in(readKeys, n) }

// ReadReservation is like ReadKeys.
func ReadReservation(n int) []byte { return in(readReservation, n) }

func in(action byte, n int) []byte {
	cdb := make([]byte, 10)
	cdb[0], cdb[1] = opIn, action
	binary.BigEndian.PutUint16(cdb[7:], uint16(min(max(n, headLength), 0xffff)))
	return cdb
}

// ErrShort says that an answer is not whole: it must be asked for with more room.
var ErrShort = errors.New("the answer is cut off")

// Keys reads the answer to ReadKeys.
func Keys(b []byte) (generation uint32, keys []Key, err error) {
	generation, body, err := body(b)
	if err != nil {
		return 0, nil, err
	}
	if len(body)%8 != 0 {
		return 0, nil, fmt.Errorf("read keys: %d bytes are no keys", len(body))
	}
	for ; len(body) > 0; body = body[8:] {
		keys = append(keys, Key(binary.BigEndian.Uint64(body)))
	}
	return generation, keys, nil
}

// Holder reads the answer to ReadReservation. Key 0: nobody holds it.
func Holder(b []byte) (generation uint32, holder Key, t Type, err error) {
	generation, body, err := body(b)
	switch {
	case err != nil:
		return 0, 0, 0, err
	case len(body) == 0:
		return generation, 0, 0, nil
	case len(body) < 16:
		return 0, 0, 0, fmt.Errorf("read reservation: %d bytes are none", len(body))
	case body[13]>>4 != 0:
		return 0, 0, 0, fmt.Errorf("read reservation: scope %d is not the unit", body[13]>>4)
	}
	return generation, Key(binary.BigEndian.Uint64(body)), Type(body[13] & 0xf), nil
}

func body(b []byte) (generation uint32, body []byte, err error) {
	if len(b) < headLength {
		return 0, nil, ErrShort
	}
	n := binary.BigEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-headLength) {
		return 0, nil, ErrShort
	}
	return binary.BigEndian.Uint32(b), b[headLength : headLength+int(n)], nil
}
