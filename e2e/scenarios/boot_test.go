package scenarios

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/bootimage/build"
	"cloudengine/events"
)

// diskGuest is a guest that boots from its disk.
type diskGuest struct {
	name   string        // of the template and of the VM
	image  string        // of the disk
	ram    string        // that it needs
	says   string        // on its console, once it is up
	within time.Duration // from its start
	kind   string        // of its domain
}

// smallGuest boots a small kernel from its disk, through the same chain and by the same boot loader as Linux would, and in a fraction of the time:
// GRUB waits for each 4 KiB. TestSoakStorage boots Linux.
func smallGuest(t *testing.T) diskGuest {
	t.Helper()
	image := bootDisk(t, map[string]string{"kernel": built("guest/" + build.GuestSmall)}, "linux /boot/kernel.gz", "8m")
	return diskGuest{"small", image, "128MiB", build.SmallSays, 10 * time.Minute, events.TypePV}
}

// bootDisk makes the image of a disk with files in /boot and with GRUB's configuration, whose one entry is given. The kernel among them is packed.
func bootDisk(t *testing.T, files map[string]string, entry, size string) string {
	t.Helper()
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "boot/grub"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, from io.Reader) {
		f, err := os.Create(filepath.Join(tree, "boot", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.Copy(f, from); err != nil {
			t.Fatal(err)
		}
	}
	for name, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		write(name, f)
	}
	// GRUB refuses what compress/gzip writes: it wants two codes for distances where one would do.
	if out, err := exec.CommandContext(t.Context(), "gzip", "-9n", filepath.Join(tree, "boot/kernel")).CombinedOutput(); err != nil {
		t.Fatalf("pack the kernel: %v: %s", err, out)
	}
	write("grub/grub.cfg", strings.NewReader("set timeout=0\nmenuentry guest {\n"+entry+"\n}\n"))
	image := filepath.Join(t.TempDir(), "disk.img")
	cmd := exec.CommandContext(t.Context(), "mke2fs", "-q", "-t", "ext4", "-m", "0", "-O", "^metadata_csum_seed,^orphan_file,^has_journal", "-d", tree, image, size)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a disk: %v: %s", err, out)
	}
	return image
}

// sshKey is a public key that guests are told.
const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann@example"

// bootsFromItsDisk: an image becomes a template, a volume is filled from it on the owner of its array, and the guest boots from that by its own
// boot loader's configuration and kernel, on each of the hosts.
func bootsFromItsDisk(t *testing.T, g diskGuest, hosts ...string) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(key, []byte(sshKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "template", "import", g.name, "--disk", g.image, "--format", "raw", "--min-ram", g.ram)
	began := time.Now()
	must(t, "vm", "create", g.name, "--account", "demo", "--template", g.name, "--type", g.kind, "--ram", g.ram, "--vcpus", "1",
		"--pool", sanPool, "--ssh-key", key, "--wait", "--timeout", "20m")
	t.Logf("its disk is made and filled after %.0f s", time.Since(began).Seconds())
	for _, host := range hosts {
		began = time.Now()
		must(t, "vm", "start", g.name, "--host", host, "--wait", "--timeout", "5m")
		eventually(t, g.within, g.name+" has booted from its disk on "+host, func() (bool, string) {
			out := must(t, "vm", "console", g.name, "--bytes", "65536")
			return strings.Contains(out, g.says), out
		})
		t.Logf("it has booted from its disk %.0f s after its start was asked for", time.Since(began).Seconds())
		must(t, "vm", "stop", g.name, "--wait", "--timeout", "5m")
	}
	must(t, "volume", "detach", g.name)
	must(t, "vm", "delete", g.name)
	must(t, "volume", "delete", g.name, "--wait", "--timeout", "20m")
	must(t, "template", "delete", g.name)
}
