//go:build lab

package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/workers/modprobe"
)

// TestRealModules loads all that the storage chain is made of into the image's own kernel.
func TestRealModules(t *testing.T) {
	for _, name := range storageModules {
		if err := modprobe.Load(name); err != nil {
			// Drivers whose device or processor is not there refuse to start.
			if strings.Contains(err.Error(), "no such device") {
				t.Logf("%s: %v", name, err)
				continue
			}
			t.Error(err)
		}
	}
	for _, path := range []string{"/sys/kernel/config/target", "/dev/mapper/control"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// TestRealPrograms starts each program: one whose libraries are not complete does not.
func TestRealPrograms(t *testing.T) {
	for words, want := range map[string]string{
		"/sbin/mdadm --version": "mdadm - v4", "/sbin/lvm version": "LVM version", "/sbin/iscsid --version": "iscsid version",
		"/sbin/iscsiadm --version": "iscsiadm version",
	} {
		if out, err := call(t, words); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", words, err, out)
		}
	}
}

// TestRealLVMSeesOnlyWhatIsNamed holds for a person at the console, who has the image's lvm.conf.
func TestRealLVMSeesOnlyWhatIsNamed(t *testing.T) {
	if _, err := os.Stat("/dev/vda"); err != nil {
		t.Fatal("the machine has no disk: give it one with -disks 1")
	}
	if err := modprobe.Load("dm_mod"); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"lvm pvcreate --devices /dev/vda /dev/vda", "lvm vgcreate --devices /dev/vda labvg /dev/vda"} {
		if out, err := call(t, words); err != nil {
			t.Fatalf("%s: %v\n%s", words, err, out)
		}
	}
	if out, err := call(t, "lvm vgs --devices /dev/vda"); err != nil || !strings.Contains(out, "labvg") {
		t.Errorf("the named device is not seen: %v\n%s", err, out)
	}
	if out, err := call(t, "lvm vgs"); err != nil || strings.Contains(out, "labvg") {
		t.Errorf("a device that was not named is seen: %v\n%s", err, out)
	}
	if found, err := filepath.Glob("/dev/mapper/*"); err != nil || len(found) > 1 {
		t.Errorf("something was activated: %v, %v", found, err)
	}
}

func call(t *testing.T, words string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	f := strings.Fields(words)
	out, err := exec.CommandContext(ctx, f[0], f[1:]...).CombinedOutput()
	return string(out), err
}
