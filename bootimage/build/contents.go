package build

import "maps"

// This file is the list of what is in the image (with storage.go and devicemodel.go); the rest of the package is how it gets there.

// kernelMeta is the Debian metapackage that names the current kernel.
const kernelMeta = "linux-image-amd64"

// xenPackage holds the hypervisor.
const xenPackage = "xen-hypervisor-4.17-amd64"

// gccPackage holds libgcc_s, which libc opens at run time: pthread_cancel aborts without it.
const gccPackage = "libgcc-s1"

// programs are the binaries taken from Debian packages, with where they come from and where they go. Debian's own
// /usr/sbin/xl is a shell script, so the real directory is the one in the path.
var programs = union(storagePrograms, map[string][]string{
	"xen-utils-4.17": {
		"/usr/lib/xen-4.17/bin/xl",
		"/usr/lib/xen-4.17/bin/libxl-save-helper",
		"/usr/lib/xen-4.17/bin/xenstored",
		"/usr/lib/xen-4.17/bin/xenconsoled",
		"/usr/lib/xen-4.17/bin/xenconsole",
		"/usr/lib/xen-4.17/bin/xen-init-dom0",
	},
	"xenstore-utils": {
		"/usr/bin/xenstore-ls",
		"/usr/bin/xenstore-read",
		"/usr/bin/xenstore-write",
		"/usr/bin/xenstore-rm",
	},
	deviceModelPackage: {deviceModel},
})

// kernelModules are in the image together with all that they depend on.
var kernelModules = append([]string{
	"xen-evtchn", "xen-privcmd", "xenfs", "xen-gntdev", "xen-gntalloc", "xen-blkback", "xen-netback", "xen-wdt",
	"loop", "bridge", "8021q", "tun", "ifb", "veth", "vxlan", "nf_tables", "nft_limit", "nft_fwd_netdev",
	"sch_htb", "sch_fq_codel", "sch_tbf", "sch_ingress", "act_police", "cls_matchall", "cls_u32",
	"virtio-pci", "virtio-net", "virtio-rng",
	"e1000", "e1000e", "igb", "igc", "ixgbe", "i40e", "tg3", "bnxt_en", "r8169", "mlx4_en", "mlx5_core",
}, storageModules...)

// uinit is u-root's first program in our image: it keeps noded running.
const uinit = "cloudengine/bootimage/uinit"

// userland are u-root's commands in the image: init, and what a person at the console needs.
var userland = []string{
	"github.com/u-root/u-root/cmds/core/init",
	"github.com/u-root/u-root/cmds/core/gosh",
	"github.com/u-root/u-root/cmds/core/cat",
	"github.com/u-root/u-root/cmds/core/cp",
	"github.com/u-root/u-root/cmds/core/date",
	"github.com/u-root/u-root/cmds/core/dmesg",
	"github.com/u-root/u-root/cmds/core/echo",
	"github.com/u-root/u-root/cmds/core/find",
	"github.com/u-root/u-root/cmds/core/free",
	"github.com/u-root/u-root/cmds/core/grep",
	"github.com/u-root/u-root/cmds/core/head",
	"github.com/u-root/u-root/cmds/core/hexdump",
	"github.com/u-root/u-root/cmds/core/id",
	"github.com/u-root/u-root/cmds/core/ip",
	"github.com/u-root/u-root/cmds/core/kill",
	"github.com/u-root/u-root/cmds/core/ln",
	"github.com/u-root/u-root/cmds/core/ls",
	"github.com/u-root/u-root/cmds/core/lsmod",
	"github.com/u-root/u-root/cmds/core/mkdir",
	"github.com/u-root/u-root/cmds/core/more",
	"github.com/u-root/u-root/cmds/core/mount",
	"github.com/u-root/u-root/cmds/core/mv",
	"github.com/u-root/u-root/cmds/core/pci",
	"github.com/u-root/u-root/cmds/core/ping",
	"github.com/u-root/u-root/cmds/core/ps",
	"github.com/u-root/u-root/cmds/core/rm",
	"github.com/u-root/u-root/cmds/core/shutdown",
	"github.com/u-root/u-root/cmds/core/sleep",
	"github.com/u-root/u-root/cmds/core/sync",
	"github.com/u-root/u-root/cmds/core/tail",
	"github.com/u-root/u-root/cmds/core/umount",
	"github.com/u-root/u-root/cmds/core/uname",
	"github.com/u-root/u-root/cmds/core/wc",
}

// userlandTags keep gosh to its small form, without line editing.
var userlandTags = []string{"goshsmall"}

// directories that are in the image from the start; those above them are made too.
var directories = union(storageDirectories, map[string]uint64{
	"bin": 0o755, "sbin": 0o755, "dev": 0o755, "proc": 0o755, "sys": 0o755, "root": 0o700, "run": 0o755,
	"tmp": 0o1777, "etc/cloudengine": 0o700, "etc/xen/scripts": 0o755, "usr/bin": 0o755, "usr/lib": 0o755,
	"usr/sbin": 0o755, "var/lib/xen": 0o755, "var/log/xen/console": 0o755,
})

// links of the image: path and target. /var/run must be a link to /run, or libxl does not find its lock file.
var links = map[string]string{
	"var/run":                    "/run",
	"bin/sh":                     "/bbin/gosh",
	"bin/defaultsh":              "/bbin/uinit",
	"etc/xen/scripts/ce-hotplug": "/bin/noded",
	"usr/lib/xen-default":        "/usr/lib/xen-4.17",
}

// texts are small files of the image; xl complains at each call when its configuration is missing.
var texts = union(storageTexts, map[string]string{
	"etc/xen/xl.conf": "",
	"etc/passwd":      "root:x:0:0:root:/root:/bin/sh\n" + deviceModelUsers,
	"etc/group":       "root:x:0:\n" + deviceModelGroups,
	"etc/hosts":       "127.0.0.1 localhost\n",
})

// union joins lists of which no two name the same thing.
func union[V any](all ...map[string]V) map[string]V {
	joined := map[string]V{}
	for _, m := range all {
		maps.Copy(joined, m)
	}
	return joined
}
