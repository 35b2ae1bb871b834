package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/u-root/mkuimage/cpio"
)

// Names of the files of the test guest.
const (
	GuestKernel    = "vmlinux"   // uncompressed ELF, for PV and PVH
	GuestBzImage   = "vmlinuz"   // the same kernel as its package has it, for HVM
	GuestInitramfs = "guest.img" // one static program, cloudengine/bootimage/guest, and the drivers of its disks and NICs
)

// guestPackage is the guest's only program.
const guestPackage = "cloudengine/bootimage/guest"

// guestDrivers are the drivers of paravirtual disks and NICs, which the program loads: they need no other module.
var guestDrivers = []string{"xen-blkfront.ko", "xen-netfront.ko"}

// Guest writes the kernel and initramfs of the tiny test guest into out (default bin/guest). Files that are already
// the same are not written again.
func Guest(ctx context.Context, o Options, out string) error {
	if err := guest(ctx, o, out); err != nil {
		return fmt.Errorf("build test guest: %w", err)
	}
	return nil
}

func guest(ctx context.Context, o Options, out string) error {
	if err := o.defaults(); err != nil {
		return err
	}
	if out == "" {
		out = "bin/guest"
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	release, err := lockCache(ctx, o.Cache, o.Say)
	if err != nil {
		return err
	}
	defer release()
	s := newStore(o)
	kernel, err := kernelPackage(ctx, s)
	if err != nil {
		return err
	}
	if err := guestKernel(kernel, o, filepath.Join(out, GuestKernel)); err != nil {
		return err
	}
	packed, err := packedKernel(kernel)
	if err != nil {
		return err
	}
	if err := writeIfNew(filepath.Join(out, GuestBzImage), packed); err != nil {
		return err
	}
	if err := guestSmall(s, filepath.Join(out, GuestSmall)); err != nil {
		return err
	}
	return guestFiles(ctx, kernel, o, filepath.Join(out, GuestInitramfs))
}

// guestFiles builds the guest's program and packs it with its driver.
func guestFiles(ctx context.Context, kernel *deb, o Options, dest string) error {
	program := filepath.Join(o.Cache, "guest")
	if err := goBuild(ctx, o.Module, guestPackage, program); err != nil {
		return err
	}
	modules, err := newModuleSet(kernel.root)
	if err != nil {
		return err
	}
	var drivers []string
	for _, d := range guestDrivers {
		drivers = append(drivers, modules.file(modules.paths[moduleName(d)]))
	}
	img, err := guestInitramfs(program, drivers)
	if err != nil {
		return err
	}
	return writeIfNew(dest, img)
}

// guestKernel unpacks the kernel, once per kernel package.
func guestKernel(kernel *deb, o Options, dest string) error {
	cached := filepath.Join(o.Cache, "vmlinux-"+kernel.SHA256[:16])
	if _, err := os.Stat(cached); errors.Is(err, os.ErrNotExist) {
		o.Say("unpacking the guest's kernel")
		packed, err := packedKernel(kernel)
		if err != nil {
			return err
		}
		var plain bytes.Buffer
		if err := Vmlinux(&plain, packed); err != nil {
			return err
		}
		if err := writeFrom(cached+".tmp", &plain); err != nil {
			return fmt.Errorf("write kernel: %w", err)
		}
		if err := os.Rename(cached+".tmp", cached); err != nil {
			return fmt.Errorf("write kernel: %w", err)
		}
		prune(o.Cache, "vmlinux-*", 2)
	} else if err != nil {
		return fmt.Errorf("look for the unpacked kernel: %w", err)
	}
	body, err := os.ReadFile(cached)
	if err != nil {
		return fmt.Errorf("read kernel: %w", err)
	}
	return writeIfNew(dest, body)
}

// packedKernel reads the bzImage of a kernel package.
func packedKernel(kernel *deb) ([]byte, error) {
	found, err := filepath.Glob(filepath.Join(kernel.root, "boot/vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("find kernel in %s: %d candidates", kernel.Name, len(found))
	}
	packed, err := os.ReadFile(found[0])
	if err != nil {
		return nil, fmt.Errorf("read kernel: %w", err)
	}
	return packed, nil
}

// guestInitramfs packs the driver and the guest's program: it is init, and by its other names what the kernel starts when the
// hypervisor asks for a shutdown or a reboot.
func guestInitramfs(program string, drivers []string) ([]byte, error) {
	body, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("pack guest: %w", err)
	}
	records := []cpio.Record{
		cpio.Directory("dev", 0o755), cpio.Directory("proc", 0o755), cpio.Directory("sys", 0o755),
		cpio.Directory("sbin", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.StaticFile("init", string(body), 0o755),
		cpio.Symlink("sbin/poweroff", "/init"), cpio.Symlink("sbin/reboot", "/init"),
	}
	for _, path := range drivers {
		module, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("pack guest: %w", err)
		}
		records = append(records, cpio.StaticFile(filepath.Base(path), string(module), 0o644))
	}
	var plain, packed bytes.Buffer
	w := cpio.Newc.Writer(&plain)
	for i, r := range records {
		r = cpio.MakeReproducible(r)
		r.Ino, r.NLink = uint64(i+1), 1
		if err := w.WriteRecord(r); err != nil {
			return nil, fmt.Errorf("pack guest: %w", err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("pack guest: %w", err)
	}
	if err := compress(&packed, &plain); err != nil {
		return nil, fmt.Errorf("pack guest: %w", err)
	}
	return packed.Bytes(), nil
}

// writeIfNew writes body to path unless it is there already.
func writeIfNew(path string, body []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, body) {
		return nil
	}
	if err := writeFrom(path+".tmp", io.Reader(bytes.NewReader(body))); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
