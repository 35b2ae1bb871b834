package initiator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// attentions a unit may have in a row: one for each thing that happened since the last command.
	attentions = 5
	// probeTime is a limit of the background run, beyond all that the kernel takes.
	probeTime = 10 * time.Minute
)

// Probe asks a disk, by its name, whether its unit is ready (TEST UNIT READY). nil: it is. Errors: those of this package that begin with a
// unit's state (ErrStandby, ErrReserved, ErrTransport, ErrNoUnit …), or ErrPending when ctx ends first: a broken path takes the kernel 5 to 12
// seconds to notice. The command itself has the time of any other: a shorter one would start error handling that stalls the whole session.
func (i *Initiator) Probe(ctx context.Context, dev string) error {
	if dev != filepath.Base(dev) || dev == "." || dev == ".." {
		return fmt.Errorf("probe %s: not the name of a disk", dev)
	}
	if _, err := os.Stat(i.path("sys/block", dev, "device")); err != nil {
		return fmt.Errorf("probe %s: %w: %w", dev, ErrNoUnit, err)
	}
	key := "probe " + dev + " " + i.text("sys/block", dev, "diskseq") // names and places are given again, this number is not (sysfs-block)
	if err := i.flights.do(ctx, key, key, probeTime, func(context.Context) error { return i.ready(dev) }); err != nil {
		return fmt.Errorf("probe %s: %w", dev, err)
	}
	return nil
}

// ready sends TEST UNIT READY (SPC-4, 6.47). It returns when the kernel does.
func (i *Initiator) ready(dev string) error {
	command := i.edges.command
	if command == nil {
		command = i.command
	}
	var r reply
	for range attentions {
		var err error
		if r, err = command(dev, make([]byte, 6)); err != nil {
			return err
		}
		if !r.attention() {
			break
		}
	}
	return r.err()
}

// sgIO is the kernel's struct sg_io_hdr (scsi/sg.h) on 64-bit machines.
type sgIO struct {
	interfaceID    int32
	dxferDirection int32
	cmdLen         uint8
	mxSbLen        uint8
	iovecCount     uint16
	dxferLen       uint32
	dxferp         uintptr
	cmdp           uintptr
	sbp            uintptr
	timeout        uint32 // ms
	flags          uint32
	packID         int32
	usrPtr         uintptr
	status         uint8
	maskedStatus   uint8
	msgStatus      uint8
	sbLenWr        uint8
	hostStatus     uint16
	driverStatus   uint16
	resid          int32
	duration       uint32
	info           uint32
}

const (
	sgIORequest   = 0x2285 // SG_IO
	sgDxferNone   = -1     // SG_DXFER_NONE
	sgDxferToDev  = -2     // SG_DXFER_TO_DEV
	sgDxferFromDv = -3     // SG_DXFER_FROM_DEV
)

// command sends a SCSI command without data.
func (i *Initiator) command(dev string, cdb []byte) (reply, error) {
	return i.send(dev, cdb, nil, sgDxferNone)
}

// send sends a SCSI command by SG_IO; data goes where direction says, and is filled from its beginning when it is read. A device that the kernel has
// taken offline, or that is gone, is a broken path.
func (i *Initiator) send(dev string, cdb, data []byte, direction int32) (reply, error) {
	fd, err := unix.Open(i.path("dev", dev), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("%w: %w", ErrTransport, err)
		}
		return reply{}, fmt.Errorf("open disk: %w", err)
	}
	defer unix.Close(fd)
	sense := make([]byte, 96)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&cdb[0])
	pin.Pin(&sense[0])
	h := sgIO{
		interfaceID: 'S', dxferDirection: direction, cmdLen: uint8(len(cdb)), mxSbLen: uint8(len(sense)),
		cmdp: uintptr(unsafe.Pointer(&cdb[0])), sbp: uintptr(unsafe.Pointer(&sense[0])), timeout: deviceTimeout * 1000,
	}
	if len(data) > 0 {
		pin.Pin(&data[0])
		h.dxferp, h.dxferLen = uintptr(unsafe.Pointer(&data[0])), uint32(len(data))
	}
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), sgIORequest, uintptr(unsafe.Pointer(&h)))
		switch errno {
		case 0:
			return reply{status: h.status, host: h.hostStatus, driver: h.driverStatus, sense: sense[:h.sbLenWr]}, nil
		case unix.EINTR:
		case unix.ENXIO, unix.ENODEV, unix.EIO:
			return reply{}, fmt.Errorf("send command: %w: %w", ErrTransport, errno)
		default:
			return reply{}, fmt.Errorf("send command: %w", errno)
		}
	}
}
