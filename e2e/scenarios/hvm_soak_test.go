//go:build soak

package scenarios

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cloudengine/e2e/chain"
	"cloudengine/events"
)

// bootSector is a whole boot loader: it has the BIOS read the next sector of the disk that it was loaded from, and prints the text there on the
// first serial port.
var bootSector = []byte{
	0x31, 0xc0, // xor ax, ax
	0x8e, 0xd8, // mov ds, ax
	0x8e, 0xc0, // mov es, ax
	0x8e, 0xd0, // mov ss, ax
	0xbc, 0x00, 0x7c, // mov sp, 0x7c00
	0xbe, 0x31, 0x7c, // mov si, what to read
	0xb4, 0x42, // mov ah, 0x42: extended read; dl is the disk that was booted from
	0xcd, 0x13, // int 0x13
	0x72, 0x1a, // jc end
	0xbe, 0x00, 0x80, // mov si, 0x8000
	0xac,       // next: lodsb
	0x84, 0xc0, // test al, al
	0x74, 0x12, // jz end
	0x88, 0xc3, // mov bl, al
	0xba, 0xfd, 0x03, // wait: mov dx, 0x3fd
	0xec,       // in al, dx
	0xa8, 0x20, // test al, 0x20
	0x74, 0xf8, // jz wait
	0xba, 0xf8, 0x03, // mov dx, 0x3f8
	0x88, 0xd8, // mov al, bl
	0xee,       // out dx, al
	0xeb, 0xe9, // jmp next
	0xf4,       // end: hlt
	0xeb, 0xfd, // jmp end
	16, 0, 1, 0, 0x00, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // what to read: one sector, the second, to 0x8000
}

// biosGuest is an emulated machine whose BIOS boots its disk.
func biosGuest(t *testing.T) diskGuest {
	t.Helper()
	const says = "guest: name=from-disk, by its BIOS"
	disk := make([]byte, 4<<20)
	copy(disk, bootSector)
	disk[510], disk[511] = 0x55, 0xaa
	copy(disk[512:], says+"\r\n")
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	return diskGuest{"bios", image, "128MiB", says, 10 * time.Minute, events.TypeHVM}
}

// machineWithDisks: an emulated machine writes to a volume by Xen's own driver, which takes the disk over from the emulated one, and finds what it
// wrote after a restart. Its device model goes with it.
func machineWithDisks(t *testing.T) {
	const name = "emud"
	before, host := writing(t, 1), text(row(t, events.KindVM, sanVM), "host_name")
	must(t, "template", "import", name, "--kernel", built("guest/vmlinuz"), "--ramdisk", built("guest/guest.img"), "--cmdline", machineArgs, "--min-ram", "96MiB")
	must(t, "volume", "create", name, "--account", "demo", "--pool", sanPool, "--size", "32MiB", "--wait", "--timeout", "5m")
	must(t, "vm", "create", name, "--account", "demo", "--template", name, "--type", "hvm", "--ram", "128MiB", "--vcpus", "1",
		"--cmdline", machineArgs+" ce.disk="+events.SlotPrimary)
	must(t, "volume", "attach", name, "--vm", name)
	must(t, "vm", "start", name, "--host", host, "--wait", "--timeout", "5m")
	first := machineWrites(t, name, 1)
	if out := must(t, "vm", "console", name, "--bytes", "65536"); !regexp.MustCompile(`type=HVM`).MatchString(out) || !strings.Contains(out, "vbd") {
		t.Fatalf("its guest has not Xen's driver of disks:\n%s", out)
	}
	must(t, "vm", "reboot", name, "--wait", "--timeout", "5m")
	if again := machineWrites(t, name, 2); again.Holds == 0 {
		t.Errorf("after a restart its guest found nothing of %d writes", first.Writes)
	}
	must(t, "vm", "stop", name, "--wait", "--timeout", "5m")
	eventually(t, time.Minute, "its device model is gone", func() (bool, string) {
		models := deviceModels(t, host)
		return len(models) == 0, fmt.Sprint(models)
	})
	must(t, "volume", "detach", name)
	must(t, "vm", "delete", name)
	must(t, "volume", "delete", name, "--wait", "--timeout", "5m")
	must(t, "template", "delete", name)
	stalled(t, "beside an emulated machine with a disk", before, 20)
}

// machineWrites waits until the guest of the so many'th start of a VM has written 20 blocks, all of them whole.
func machineWrites(t *testing.T, vm string, start int) (w written) {
	t.Helper()
	eventually(t, 8*time.Minute, vm+" writes to its disk", func() (bool, string) {
		out := must(t, "vm", "console", vm, "--bytes", "65536")
		starts := strings.Split(out, "guest: I am")
		if len(starts) <= start {
			return false, out
		}
		out = starts[start]
		var err error
		if w, err = chain.Parse(out); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		return w.Writes >= 20, out
	})
	return w
}
