package storage_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/lio"
	"cloudengine/workers/storage"
)

func TestWhatIsNoDisk(t *testing.T) {
	root := machine(t, 6)
	block := root + "/sys/block/"
	write(t, block+"vdb/removable", "1")
	write(t, block+"vdc/serial", "")
	write(t, block+"vdd/serial", "d0") // two of one serial: neither
	write(t, block+"vde/vde1/dev", "254:65")
	write(t, root+"/proc/self/mountinfo", "1 1 254:65 / / rw - ext4 /dev/vde1 rw\n")
	write(t, block+"loop0/size", "2048")
	write(t, block+"loop0/dev", "7:0")
	write(t, block+"loop0/serial", "x")
	write(t, block+"sda/size", "2048")
	write(t, block+"sda/dev", "8:0")
	write(t, block+"sda/device/wwid", "naa.6001405aaaaaaaaaaaaaaaaaaaaaaaaa\n")
	write(t, block+"sda/device/vpd_pg80", "\x00\x80\x00\x04XYZ1")
	write(t, block+"sdb/size", "2048")
	write(t, block+"sdb/dev", "8:16")
	write(t, block+"sdb/device/state", "offline")
	write(t, block+"sdb/device/model", "MODEL  \n")
	write(t, block+"sdb/device/vpd_pg80", "\x00\x80\x00\x04XYZ2")
	r := newRig(root, t.TempDir(), lio.ISCSI)
	rep := r.worker.Report(nil, r.observe(t), nil)
	want := []events.DiskReport{
		{Serial: "XYZ2", Bytes: 1 << 20, Model: "MODEL", Signature: "unreadable", Health: events.DiskFailing}, // it has no node
		{Serial: "d5", Bytes: 1 << 20, Health: events.DiskUnknown},
	}
	if !reflect.DeepEqual(rep.Disks, want) {
		t.Errorf("disks are %+v", rep.Disks)
	}
}

func TestSignatures(t *testing.T) {
	const size = 4 << 20
	le16 := func(v uint16) string { return string(binary.LittleEndian.AppendUint16(nil, v)) }
	le32 := func(v ...uint32) string {
		var b []byte
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, x)
		}
		return string(b)
	}
	uuid := strings.Repeat("\xa0", 16)
	for _, c := range []struct {
		want string
		at   map[int64]string
	}{
		{"", nil},
		{"linux_raid_member", map[int64]string{4096: le32(0xa92b4efc, 1) + strings.Repeat("\x00", 8) + uuid}},
		{"linux_raid_member", map[int64]string{0: le32(0xa92b4efc, 1)}},
		{"linux_raid_member", map[int64]string{size - 8192: le32(0xa92b4efc, 1)}},
		{"linux_raid_member", map[int64]string{size - 65536: le32(0xa92b4efc, 0)}},
		{"LVM2_member", map[int64]string{512: "LABELONE", 512 + 24: "LVM2 001"}},
		{"gpt", map[int64]string{510: "\x55\xaa", 512: "EFI PART"}},
		{"gpt", map[int64]string{size - 512: "EFI PART"}},
		{"dos", map[int64]string{510: "\x55\xaa"}},
		{"ext2", map[int64]string{1024 + 0x38: le16(0xef53), 1024 + 0x5c: le32(0, 2, 1)}},
		{"ext3", map[int64]string{1024 + 0x38: le16(0xef53), 1024 + 0x5c: le32(4, 2, 1)}},
		{"ext4", map[int64]string{1024 + 0x38: le16(0xef53), 1024 + 0x5c: le32(4, 0x42, 1)}},
		{"xfs", map[int64]string{0: "XFSB"}},
		{"btrfs", map[int64]string{65536 + 64: "_BHRfS_M"}},
		{"swap", map[int64]string{4086: "SWAPSPACE2"}},
		{"crypto_LUKS", map[int64]string{0: "LUKS\xba\xbe"}},
		{"zfs_member", map[int64]string{128<<10 + 2048: "\x0c\xb1\xba\x00\x00\x00\x00\x00"}},
		{"ntfs", map[int64]string{3: "NTFS    ", 510: "\x55\xaa"}},
	} {
		b := make([]byte, size)
		for at, s := range c.at {
			copy(b[at:], s)
		}
		s, err := storage.ReadSignature(bytes.NewReader(b), size)
		if err != nil || s.Type != c.want {
			t.Errorf("signature is %+v, %v, not %q", s, err, c.want)
		}
	}
	for _, size := range []int64{0, 1, 511, 512, 4096, 70000} {
		if s, err := storage.ReadSignature(bytes.NewReader(make([]byte, size)), size); err != nil || s.Type != "" {
			t.Errorf("signature of %d zeros is %+v, %v", size, s, err)
		}
	}
}

func FuzzSignature(f *testing.F) {
	f.Add([]byte("XFSB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := storage.ReadSignature(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// TestOurArrayIsNoForeignSignature: if the document, or the record of this boot, names it.
func TestOurArrayIsNoForeignSignature(t *testing.T) {
	root := machine(t, 1)
	raw, err := hex.DecodeString(strings.ReplaceAll(string(array), "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<20)
	copy(b[4096:], "\xfc\x4e\x2b\xa9\x01\x00\x00\x00")
	copy(b[4096+16:], raw)
	write(t, root+"/dev/vda", string(b))
	r := newRig(root, t.TempDir(), lio.ISCSI)
	signature := func() string { return r.worker.Report(r.docs, r.observe(t), nil).Disks[0].Signature }
	if s := signature(); s != "linux_raid_member" {
		t.Errorf("of an array that nobody knows the signature is %q", s)
	}
	r.say(1, "d0", desired.Export{Array: array2, Epoch: epoch(1), Want: desired.Absent})
	if s := signature(); s != "linux_raid_member" {
		t.Errorf("of another array the signature is %q", s)
	}
	r.say(2, "d0", desired.Export{Epoch: epoch(1), Want: desired.Absent})
	if s := signature(); s != "" {
		t.Errorf("of our array the signature is %q", s)
	}
}
