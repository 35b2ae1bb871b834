package dm

import (
	"encoding/binary"
	"errors"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestSizes: binary.Write packs what the compiler pads in the same way, and what the kernel calls the size of each struct.
func TestSizes(t *testing.T) {
	for _, x := range []struct {
		name              string
		have, kernel, raw int
	}{
		{"dm_ioctl", int(unsafe.Sizeof(unix.DmIoctl{})), unix.SizeofDmIoctl, binary.Size(unix.DmIoctl{})},
		{"dm_target_spec", int(unsafe.Sizeof(unix.DmTargetSpec{})), unix.SizeofDmTargetSpec, binary.Size(unix.DmTargetSpec{})},
	} {
		if x.have != x.kernel || x.raw != x.kernel {
			t.Errorf("%s: %d and %d bytes, want %d", x.name, x.have, x.raw, x.kernel)
		}
	}
}

// answer turns a table as it is sent into one as it is answered: next counts from the beginning of the data there.
func answer(data []byte) []byte {
	out := append([]byte(nil), data...)
	for at := 0; at < len(out); {
		next := &out[at+20]
		size := binary.NativeEndian.Uint32(unsafe.Slice(next, 4))
		at += int(size)
		binary.NativeEndian.PutUint32(unsafe.Slice(next, 4), uint32(at))
	}
	return out
}

func TestTablesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table []Target
		var at uint64
		for range rapid.IntRange(1, 6).Draw(t, "targets") {
			n := rapid.Uint64Range(1, 1<<40).Draw(t, "length")
			x := Error(at, n)
			if rapid.Bool().Draw(t, "linear") {
				x = Linear(at, n, "9:127", rapid.Uint64Range(0, 1<<40).Draw(t, "offset"))
			}
			table, at = append(table, x), at+n
		}
		data, err := encodeTable(table)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeTable(answer(data), len(table))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(table) || Sectors(got) != at {
			t.Fatalf("%v came back as %v", table, got)
		}
		for i := range got {
			if got[i] != table[i] {
				t.Fatalf("%v came back as %v", table[i], got[i])
			}
		}
	})
}

func TestBadTables(t *testing.T) {
	for _, table := range [][]Target{
		{Error(1, 5)},
		{Error(0, 5), Error(6, 1)},
		{Error(0, 0)},
		{{Start: 0, Length: 1, Type: "a-type-with-a-long-name"}},
	} {
		if _, err := encodeTable(table); !errors.Is(err, errTable) {
			t.Errorf("%v: %v", table, err)
		}
	}
	if IsError(nil) || !IsError([]Target{Error(0, 1)}) || IsError([]Target{Error(0, 1), Linear(1, 1, "9:0", 0)}) {
		t.Error("IsError is wrong")
	}
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"", "a/b", "..\x00", "a b"} {
		if err := Create(bad, "u", []Target{Error(0, 1)}); !errors.Is(err, errName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	var data []byte
	add := func(dev uint64, next uint32, name string) {
		data = binary.NativeEndian.AppendUint64(data, dev)
		data = binary.NativeEndian.AppendUint32(data, next)
		data = append(append(data, name...), make([]byte, 20-len(name))...)
	}
	add(unix.Mkdev(253, 0), 32, "ce-a")
	add(unix.Mkdev(253, 1), 0, "mpatha")
	got, err := decodeNames(data)
	if err != nil || len(got) != 2 || got[0] != "ce-a" || got[1] != "mpatha" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, none := range [][]byte{nil, make([]byte, 16)} {
		if got, err := decodeNames(none); err != nil || got != nil {
			t.Errorf("of nothing: %q, %v", got, err)
		}
	}
	if _, err := decodeNames(data[:40]); !errors.Is(err, errShort) {
		t.Errorf("cut off: %v", err)
	}
}
