package build

import (
	"fmt"
	"path/filepath"
)

// This file is what HVM domains need in the image besides Xen's own tools: the device model (QEMU, one process for each domain, in the
// control domain), the firmware that it and libxl load, and the users that it runs as; and the boot loaders of PV and PVH domains.
//
// Left out: option ROMs for network boot (domains have the paravirtual NIC alone, which has none), graphics adapters but the two
// that libxl can ask for, keymaps but one (without any QEMU ends at once, and xl says only "Connection reset by peer").

// deviceModel is the program; its libraries are found as those of the other programs.
const (
	deviceModelPackage = "qemu-system-xen"
	deviceModel        = "/usr/libexec/xen-qemu-system-i386"
)

// firmware are files that are taken as they are, by package. The paths are compiled into QEMU and libxl; those of the boot loaders are
// known to workers/host.
var firmware = map[string][]string{
	// GRUB as the kernel of a PV and of a PVH domain: it reads /boot/grub/grub.cfg of the first of the domain's disks that has one, and
	// starts what that says. Each is one file that holds all its modules.
	"grub-xen-host":    {"/usr/lib/grub-xen/grub-x86_64-xen.bin", "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"},
	"xen-utils-4.17":   {"/usr/lib/xen-4.17/boot/hvmloader"},
	"seabios":          {"/usr/share/seabios/bios-256k.bin", "/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/seabios/vgabios-cirrus.bin"},
	"qemu-system-data": {"/usr/share/qemu/linuxboot.bin", "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin", "/usr/share/qemu/keymaps/en-us"},
}

// Users that a device model runs as, one for each domain: xen-qemuuser-range-base + domid, up to 32751 (xl.cfg(5), dm_restrict). A
// device model that was taken over by its guest can so neither signal nor read another's. The reaper is who ends them.
const (
	deviceModelUsers  = "xen-qemuuser-range-base:x:131072:131072::/:/bin/false\nxen-qemuuser-reaper:x:65535:65535::/:/bin/false\n"
	deviceModelGroups = "xen-qemuuser-range-base:x:131072:\nxen-qemuuser-reaper:x:65535:\n"
)

// firmwareFiles finds the files in their unpacked packages.
func (s *store) firmwareFiles() ([]imageFile, error) {
	var files []imageFile
	for _, pkg := range sortedKeys(firmware) {
		for _, p := range firmware[pkg] {
			src, err := filepath.EvalSymlinks(filepath.Join(s.debs[pkg].root, p))
			if err != nil {
				return nil, fmt.Errorf("find firmware %s in %s: %w", p, pkg, err)
			}
			files = append(files, imageFile{src: src, dest: p, from: s.debs[pkg]})
		}
	}
	return files, nil
}
