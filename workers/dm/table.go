package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// SectorSize is the unit of tables, in bytes.
const SectorSize = 512

// Target is one line of a table: what a run of sectors of the device is.
type Target struct {
	Start  uint64 // first sector of the device
	Length uint64 // sectors
	Type   string // linear, error, …
	Params string // as the type wants them
}

// Linear maps a run of sectors to another device, named "major:minor", from its sector offset on (linear.rst).
func Linear(start, length uint64, device string, offset uint64) Target {
	return Target{Start: start, Length: length, Type: "linear", Params: fmt.Sprintf("%s %d", device, offset)}
}

// Error maps a run of sectors to nothing: all I/O fails.
func Error(start, length uint64) Target { return Target{Start: start, Length: length, Type: "error"} }

// Sectors gives the size of a table.
func Sectors(table []Target) uint64 {
	var n uint64
	for _, t := range table {
		n = max(n, t.Start+t.Length)
	}
	return n
}

// IsError says whether all I/O to a table fails.
func IsError(table []Target) bool {
	for _, t := range table {
		if t.Type != "error" {
			return false
		}
	}
	return len(table) > 0
}

var (
	errName  = errors.New("want 1 to 127 characters of a-z, A-Z, 0-9, . _ + - only")
	errTable = errors.New("want targets that follow each other from sector 0 on, without a hole")
)

// checkName is stricter than the kernel: with these characters udev and dmsetup escape nothing.
func checkName(s string, most int) error {
	if s == "" || len(s) > most {
		return fmt.Errorf("device name %q: %w", s, errName)
	}
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-", r) {
			return fmt.Errorf("device name %q: %w", s, errName)
		}
	}
	return nil
}

// encodeTable renders dm_target_spec structs: each is followed by its parameters and a zero, and is padded to 8 bytes; next is counted from
// the beginning of the struct itself.
func encodeTable(table []Target) ([]byte, error) {
	var out bytes.Buffer
	var at uint64
	for _, t := range table {
		if t.Start != at || t.Length == 0 || len(t.Type) == 0 || len(t.Type) >= unix.DM_MAX_TYPE_NAME {
			return nil, errTable
		}
		at += t.Length
		size := unix.SizeofDmTargetSpec + len(t.Params) + 1
		size = (size + 7) &^ 7
		spec := unix.DmTargetSpec{Sector_start: t.Start, Length: t.Length, Next: uint32(size)}
		copy(spec.Target_type[:], t.Type)
		if err := binary.Write(&out, binary.NativeEndian, &spec); err != nil {
			return nil, fmt.Errorf("encode target: %w", err)
		}
		out.WriteString(t.Params)
		out.Write(make([]byte, size-unix.SizeofDmTargetSpec-len(t.Params)))
	}
	return out.Bytes(), nil
}

// decodeTable reads what DM_TABLE_STATUS answers: there, next is counted from the beginning of the data.
func decodeTable(data []byte, count int) ([]Target, error) {
	var out []Target
	at := 0
	for range count {
		if at+unix.SizeofDmTargetSpec > len(data) {
			return nil, errShort
		}
		var spec unix.DmTargetSpec
		if err := binary.Read(bytes.NewReader(data[at:]), binary.NativeEndian, &spec); err != nil {
			return nil, fmt.Errorf("decode target: %w", err)
		}
		out = append(out, Target{
			Start: spec.Sector_start, Length: spec.Length, Type: unix.ByteSliceToString(spec.Target_type[:]),
			Params: strings.TrimSpace(unix.ByteSliceToString(data[at+unix.SizeofDmTargetSpec:])),
		})
		if next := int(spec.Next); next > at {
			at = next
		} else if len(out) < count {
			return nil, errShort
		}
	}
	return out, nil
}

var errShort = errors.New("the kernel's answer is cut off")

// decodeNames reads the dm_name_list structs that DM_LIST_DEVICES answers: device number, offset of the next, name.
func decodeNames(data []byte) ([]string, error) {
	const head = 12 // u64 and u32, then the name
	var out []string
	if len(data) == 0 {
		return nil, nil
	}
	for at := 0; ; {
		if at+head > len(data) {
			return nil, errShort
		}
		dev := binary.NativeEndian.Uint64(data[at:])
		next := int(binary.NativeEndian.Uint32(data[at+8:]))
		if dev == 0 && len(out) == 0 {
			return nil, nil // no device at all
		}
		out = append(out, unix.ByteSliceToString(data[at+head:]))
		if next == 0 {
			return out, nil
		}
		at += next
	}
}
