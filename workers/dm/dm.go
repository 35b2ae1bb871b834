package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Dir is where the nodes are.
const Dir = "/dev/mapper"

// Device is one device-mapper device.
type Device struct {
	Name      string
	UUID      string
	Major     uint32
	Minor     uint32
	Open      int      // how often it is open, other devices on top of it included
	Suspended bool     // I/O waits
	Pending   bool     // another table is loaded, and is not in force
	Table     []Target // in force; none: all I/O fails
}

// Number gives its device number as "major:minor".
func (d Device) Number() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Path gives the node of the device with a name.
func Path(name string) string { return filepath.Join(Dir, name) }

// Create makes a device with a table, in force at once, and its node. An existing name or uuid is an error (EBUSY): nothing is changed then.
// A device that got no table is removed again.
func Create(name, uuid string, table []Target) error {
	if err := errors.Join(checkName(name, unix.DM_NAME_LEN-1), checkName(uuid, unix.DM_UUID_LEN-1)); err != nil {
		return err
	}
	if _, err := encodeTable(table); err != nil {
		return fmt.Errorf("create device %s: %w", name, err)
	}
	if _, _, err := control(unix.DM_DEV_CREATE, request{name: name, uuid: uuid}); err != nil {
		return fmt.Errorf("create device %s: %w", name, err)
	}
	if err := Reload(name, table); err != nil {
		return errors.Join(err, Remove(name))
	}
	return Node(name)
}

// Reload gives a device another table: it loads it, suspends the device until its I/O is done, and resumes with the new one.
// I/O that comes meanwhile waits, and meets the new table. If it fails, the device may be left suspended: call it again.
func Reload(name string, table []Target) error {
	data, err := encodeTable(table)
	if err != nil {
		return fmt.Errorf("load table of %s: %w", name, err)
	}
	if _, _, err := control(unix.DM_TABLE_LOAD, request{name: name, data: data, targets: len(table)}); err != nil {
		return fmt.Errorf("load table of %s: %w", name, err)
	}
	if err := Suspend(name); err != nil {
		return err
	}
	return Resume(name)
}

// Suspend lets what was sent to a device be done, and holds back what comes. It returns when nothing is under way any more.
// A filesystem on it is not frozen: there is none.
func Suspend(name string) error {
	if _, _, err := control(unix.DM_DEV_SUSPEND, request{name: name, flags: unix.DM_SUSPEND_FLAG | unix.DM_SKIP_LOCKFS_FLAG}); err != nil {
		return fmt.Errorf("suspend device %s: %w", name, err)
	}
	return nil
}

// Resume puts a loaded table in force and lets I/O go on.
func Resume(name string) error {
	if _, _, err := control(unix.DM_DEV_SUSPEND, request{name: name}); err != nil {
		return fmt.Errorf("resume device %s: %w", name, err)
	}
	return nil
}

// Remove takes a device and its node away. One that is open is an error (EBUSY); one that is not there is none.
func Remove(name string) error {
	if _, _, err := control(unix.DM_DEV_REMOVE, request{name: name}); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("remove device %s: %w", name, err)
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove node of %s: %w", name, err)
	}
	return nil
}

// List gives all devices with their tables in force. A device that goes away meanwhile is left out.
func List() ([]Device, error) { return Named("") }

// Named is List of the devices whose names begin so; no other one is asked for.
func Named(prefix string) ([]Device, error) {
	_, data, err := control(unix.DM_LIST_DEVICES, request{})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	names, err := decodeNames(data)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var out []Device
	for _, n := range names {
		if !strings.HasPrefix(n, prefix) {
			continue
		}
		d, err := Get(n)
		if errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// Get gives one device. If there is none, the error is ENXIO.
func Get(name string) (Device, error) {
	head, data, err := control(unix.DM_TABLE_STATUS, request{name: name, flags: unix.DM_STATUS_TABLE_FLAG | unix.DM_NOFLUSH_FLAG})
	if err != nil {
		return Device{}, fmt.Errorf("read table of %s: %w", name, err)
	}
	table, err := decodeTable(data, int(head.Target_count))
	if err != nil {
		return Device{}, fmt.Errorf("read table of %s: %w", name, err)
	}
	return Device{
		Name: unix.ByteSliceToString(head.Name[:]), UUID: unix.ByteSliceToString(head.Uuid[:]), Major: unix.Major(head.Dev), Minor: unix.Minor(head.Dev),
		Open: int(head.Open_count), Suspended: head.Flags&unix.DM_SUSPEND_FLAG != 0, Pending: head.Flags&unix.DM_INACTIVE_PRESENT_FLAG != 0, Table: table,
	}, nil
}

// Node makes the node of a device, unless one with its number is there.
func Node(name string) error {
	d, err := Get(name)
	if err != nil {
		return err
	}
	return node(Path(name), unix.Mkdev(d.Major, d.Minor))
}

func node(path string, dev uint64) error {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == dev {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove node %s of another device: %w", path, err)
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(dev)); err != nil && !errors.Is(err, unix.EEXIST) { // udev was faster
		return fmt.Errorf("make node %s: %w", path, err)
	}
	return nil
}

// request is what one ioctl is asked.
type request struct {
	name, uuid string
	flags      uint32
	data       []byte
	targets    int
}

const (
	firstBuffer = 4 << 10
	mostBuffer  = 16 << 20
)

// control does one ioctl, with a larger buffer if the kernel asks for it. The node is not opened by os.OpenFile, which would register it with the
// runtime's poller each time.
func control(op uint, r request) (unix.DmIoctl, []byte, error) {
	fd, err := unix.Open(Path(unix.DM_CONTROL_NODE), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return unix.DmIoctl{}, nil, fmt.Errorf("open device-mapper: %w", err)
	}
	defer unix.Close(fd)
	for size := firstBuffer + len(r.data); ; size *= 4 {
		buf, err := encodeRequest(r, size)
		if err != nil {
			return unix.DmIoctl{}, nil, err
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(op), uintptr(unsafe.Pointer(&buf[0]))); errno != 0 {
			return unix.DmIoctl{}, nil, errno
		}
		head, data, err := decodeAnswer(buf)
		if err != nil {
			return unix.DmIoctl{}, nil, err
		}
		if head.Flags&unix.DM_BUFFER_FULL_FLAG == 0 {
			return head, data, nil
		}
		if size > mostBuffer {
			return unix.DmIoctl{}, nil, errShort
		}
	}
}

func encodeRequest(r request, size int) ([]byte, error) {
	head := unix.DmIoctl{
		Version: [3]uint32{unix.DM_VERSION_MAJOR, 0, 0}, Data_size: uint32(size), Data_start: unix.SizeofDmIoctl,
		Target_count: uint32(r.targets), Flags: r.flags,
	}
	copy(head.Name[:], r.name)
	copy(head.Uuid[:], r.uuid)
	var out bytes.Buffer
	if err := binary.Write(&out, binary.NativeEndian, &head); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	buf := make([]byte, size)
	copy(buf, out.Bytes())
	copy(buf[unix.SizeofDmIoctl:], r.data)
	return buf, nil
}

func decodeAnswer(buf []byte) (unix.DmIoctl, []byte, error) {
	var head unix.DmIoctl
	if err := binary.Read(bytes.NewReader(buf), binary.NativeEndian, &head); err != nil {
		return head, nil, fmt.Errorf("decode answer: %w", err)
	}
	start, end := int(head.Data_start), int(head.Data_size)
	if start < 0 || start > len(buf) || end < start || end > len(buf) {
		return head, nil, nil // no data: the kernel leaves the sizes as they were, or has none
	}
	return head, buf[start:end], nil
}
