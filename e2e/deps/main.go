// Command deps makes sure that the Debian packages that CloudEngine is built, run and tested with are there. It installs what is
// missing when it may, and says what to do when it may not. It changes nothing else.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
)

// packages are needed on the machine that builds and tests, with what for.
var packages = []struct{ name, why string }{
	{"mariadb-server-core", "the private database of the read models"},
	{"qemu-system-x86", "the machines of the virtual rack"},
	{"qemu-system-data", "firmware of those machines"},
	{"ipxe-qemu", "the boot ROM of their network cards"},
	{"ipxe", "the boot programs that plain PXE ROMs are given over TFTP"},
	{"seabios", "their BIOS"},
	{"openipmi", "their BMCs (ipmi_sim)"},
	{"ipmitool", "a second IPMI client, to compare with"},
	{"iproute2", "looking at the rack's networks by hand"},
	{"xz-utils", "unpacking kernels"},
	{"zstd", "packing the boot image"},
	{"cpio", "looking into boot images"},
	{"kmod", "module dependencies of the boot image (depmod)"},
	{"git", "version of the build"},
	{"dpkg", "the Debian package of a release (dpkg-deb)"},
	{"mmdebstrap", "the Debian guest's root file system"},
	{"e2fsprogs", "its file system (mke2fs)"},
	{"busybox", "a small guest's DHCP client (udhcpc), to answer in tests"},
	{"isc-dhcp-client", "Debian's DHCP client, to answer in tests"},
	{"bind9-dnsutils", "a DNS client (dig), to answer in tests"},
	{"keepalived", "electing the active gateway (VRRP)"},
	{"conntrackd", "keeping a pair of gateways' connections in step"},
	{"util-linux", "running those in network namespaces (nsenter)"},
	{"systemd", "checking the unit in that package (systemd-analyze, systemd-sysusers)"},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "deps:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	missing := missing(ctx)
	if len(missing) == 0 {
		return nil
	}
	line := "apt-get install -y --no-install-recommends " + strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("these Debian packages are missing: %s; this is not a Debian system: install their like by hand", strings.Join(missing, " "))
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("these Debian packages are missing; as root, run: apt-get update && %s", line)
	}
	fmt.Fprintln(os.Stderr, "deps: installing", strings.Join(missing, " "))
	for _, args := range [][]string{{"update", "-qq"}, append(strings.Fields("install -y -qq --no-install-recommends"), missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("run apt-get %s: %w\n%s", args[0], err, out.String())
		}
	}
	return nil
}

// missing asks dpkg which packages are not installed.
func missing(ctx context.Context) []string {
	var out []string
	for _, p := range packages {
		state, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", p.name).Output()
		if err != nil || string(state) != "installed" {
			out = append(out, p.name)
		}
	}
	return out
}
