package initiator

import (
	"errors"
	"fmt"
)

// What a probe finds wrong, for errors.Is.
var (
	// ErrNotReady says that the unit is there and takes no commands now; ErrStandby and ErrUnavailable are kinds of it.
	ErrNotReady = errors.New("the unit is not ready")
	// ErrStandby says that the target is in ALUA state standby: another one serves the unit.
	ErrStandby = fmt.Errorf("%w: standby", ErrNotReady)
	// ErrUnavailable says that the target is in ALUA state unavailable.
	ErrUnavailable = fmt.Errorf("%w: unavailable", ErrNotReady)
	// ErrReserved says that another initiator has reserved the unit.
	ErrReserved = errors.New("reservation conflict")
	// ErrTransport says that the command or its answer was lost: the path is broken.
	ErrTransport = errors.New("the path to the unit is broken")
	// ErrNoUnit says that the target has no such unit for us (any more).
	ErrNoUnit = errors.New("the target has no such unit")
	// ErrUnit is any other answer that is not "good".
	ErrUnit = errors.New("the unit answers with an error")
)

// reply is what came back of a SCSI command, as the kernel's sg_io_hdr tells it.
type reply struct {
	status byte   // of SCSI (SAM-5, 5.3)
	host   uint16 // DID_…: what the kernel's transport says
	driver uint16 // DRIVER_…
	sense  []byte // fixed or descriptor format (SPC-4, 4.5)
}

const (
	statusGood     = 0x00
	statusCheck    = 0x02
	statusBusy     = 0x08
	statusConflict = 0x18
	statusTaskFull = 0x28

	hostNexusFailure = 0x11 // DID_NEXUS_FAILURE: how older kernels say "reservation conflict"

	driverSense = 0x08 // DRIVER_SENSE: there is sense, which is no error of the driver

	keyNotReady  = 0x2
	keyIllegal   = 0x5
	keyAttention = 0x6
)

// codes reads sense key, additional sense code and qualifier.
func (r reply) codes() (key, asc, ascq byte, ok bool) {
	s := r.sense
	if len(s) < 4 {
		return 0, 0, 0, false
	}
	switch s[0] & 0x7f {
	case 0x70, 0x71:
		if len(s) < 14 {
			return s[2] & 0xf, 0, 0, true
		}
		return s[2] & 0xf, s[12], s[13], true
	case 0x72, 0x73:
		return s[1] & 0xf, s[2], s[3], true
	}
	return 0, 0, 0, false
}

// attention says whether the unit only had something to tell: the command is to be sent again.
func (r reply) attention() bool {
	key, _, _, ok := r.codes()
	return r.status == statusCheck && ok && key == keyAttention
}

// err says what a reply means.
func (r reply) err() error {
	switch {
	case r.status == statusConflict || r.host == hostNexusFailure:
		return ErrReserved
	case r.host != 0:
		return fmt.Errorf("%w (host status %#x)", ErrTransport, r.host)
	case r.status == statusGood && r.driver&^driverSense == 0:
		return nil
	case r.status == statusBusy || r.status == statusTaskFull:
		return fmt.Errorf("%w: busy (status %#x)", ErrNotReady, r.status)
	case r.status != statusCheck:
		return fmt.Errorf("%w (status %#x, driver status %#x)", ErrUnit, r.status, r.driver)
	}
	key, asc, ascq, ok := r.codes()
	detail := fmt.Sprintf("(sense %x/%02x/%02x)", key, asc, ascq)
	switch {
	case !ok:
		return fmt.Errorf("%w: sense % x", ErrUnit, r.sense)
	case key == keyNotReady && asc == 0x04 && ascq == 0x0b:
		return ErrStandby
	case key == keyNotReady && asc == 0x04 && ascq == 0x0c:
		return ErrUnavailable
	case key == keyNotReady:
		return fmt.Errorf("%w %s", ErrNotReady, detail)
	case key == keyIllegal && asc == 0x25:
		return ErrNoUnit
	}
	return fmt.Errorf("%w %s", ErrUnit, detail)
}
