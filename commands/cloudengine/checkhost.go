package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"cloudengine/bootimage"
	"cloudengine/projections/mysql"

	"golang.org/x/sys/unix"
)

func checkDatabase(ctx context.Context, o serveOptions) []finding {
	if o.dsn != "" {
		return fine("--mysql-dsn names a server; it is reached at the start")
	}
	path, version, err := mysql.Installed(ctx)
	if err != nil {
		return lack("apt-get install -y --no-install-recommends mariadb-server-core, or name a server with --mysql-dsn-file", "%v", err)
	}
	return fine("%s, version %s", path, version)
}

// checkAddresses tries whether the addresses can be listened on.
func checkAddresses(ctx context.Context, o serveOptions) []finding {
	var out []finding
	own := endpointsOf(o.data)
	try := func(flag, network, address string) {
		switch err := tryListen(ctx, network, address); {
		case err == nil:
			out = append(out, fine("--%s: %s is free", flag, address)...)
		case errors.Is(err, unix.EADDRINUSE) && own != "":
			out = append(out, fine("--%s: %s is in use, perhaps by the server that runs here (%s)", flag, address, own)...)
		case errors.Is(err, unix.EADDRINUSE):
			out = append(out, lack(fmt.Sprintf("see who has it (ss -lnp), or name another with --%s", flag), "--%s: %s is in use", flag, address)...)
		case errors.Is(err, unix.EADDRNOTAVAIL):
			out = append(out, lack(fmt.Sprintf("name an address of this machine with --%s (ip address)", flag), "--%s: no interface has %s", flag, address)...)
		case errors.Is(err, unix.EACCES):
			out = append(out, lack("run as root, or with the capability CAP_NET_BIND_SERVICE, as the systemd unit does", "--%s: %s is for privileged programs", flag, address)...)
		default:
			out = append(out, lack(fmt.Sprintf("name another with --%s", flag), "--%s: %v", flag, err)...)
		}
	}
	try("listen", "tcp", o.listen)
	if o.http != "" {
		try("http", "tcp", o.http)
	}
	if o.cluster != "" {
		try("cluster", "tcp", o.cluster)
	}
	if o.netboot.network != "" {
		try("netboot-interface", "udp4", "0.0.0.0:67")
		try("netboot-interface", "udp4", "0.0.0.0:69")
	}
	return out
}

func tryListen(ctx context.Context, network, address string) error {
	var lc net.ListenConfig
	if strings.HasPrefix(network, "udp") {
		c, err := lc.ListenPacket(ctx, network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return err
	}
	return l.Close()
}

// endpointsOf says where a server that runs on the data directory is; empty if none does.
func endpointsOf(data string) string {
	raw, err := os.ReadFile(filepath.Join(data, endpointsFile))
	var where struct{ Bus string }
	if err != nil || json.Unmarshal(raw, &where) != nil {
		return ""
	}
	return where.Bus
}

// Capabilities that booting machines needs, by their numbers in linux/capability.h.
var capabilities = []struct {
	number uint
	name   string
}{{10, "CAP_NET_BIND_SERVICE"}, {13, "CAP_NET_RAW"}}

func checkInterface(_ context.Context, o serveOptions) []finding {
	name := o.netboot.network
	if name == "" {
		return fine("none: machines are not booted by this server")
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return lack("name one of those that \"ip link\" shows with --netboot-interface", "%s: %v", name, err)
	}
	addresses, err := i.Addrs()
	if err != nil || i.Flags&net.FlagUp == 0 || len(addresses) == 0 {
		return lack(fmt.Sprintf("ip link set %s up; ip address add 10.0.0.1/24 dev %s", name, name), "%s is down or has no address", name)
	}
	if no := lackedCapabilities(); len(no) > 0 {
		return lack("run as root, or give them, as the systemd unit does: AmbientCapabilities="+strings.Join(no, " "), "DHCP and TFTP need %s", strings.Join(no, ", "))
	}
	return fine("%s, %s", name, addresses[0])
}

// lackedCapabilities reads what the process may do from /proc.
func lackedCapabilities() []string {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil // the sockets will tell
	}
	var out []string
	for line := range strings.SplitSeq(string(raw), "\n") {
		word, isSet := strings.CutPrefix(line, "CapEff:")
		bits, err := strconv.ParseUint(strings.TrimSpace(word), 16, 64)
		if !isSet || err != nil {
			continue
		}
		for _, c := range capabilities {
			if bits&(1<<c.number) == 0 {
				out = append(out, c.name)
			}
		}
	}
	return out
}

func checkImage(_ context.Context, o serveOptions) []finding {
	dir := o.netboot.image
	if dir == "" {
		if o.netboot.network != "" {
			return doubt("name the directory of the boot image with --image", "none: machines get an address, and nothing to boot")
		}
		return fine("none: machines are not booted by this server")
	}
	m, err := bootimage.ReadManifest(dir)
	if errors.Is(err, os.ErrNotExist) {
		if current, err2 := bootimage.ReadManifest(filepath.Join(dir, bootimage.CurrentLink)); err2 == nil {
			m, err = current, nil
		}
	}
	if err != nil {
		return lack("build one (go tool task image), and name its directory with --image", "%v", err)
	}
	return fine("%s, %d MiB, kernel %s", m.Version, m.Size()>>20, m.Kernel)
}

// checkBootPrograms looks for what plain PXE ROMs are given first.
func checkBootPrograms(_ context.Context, o serveOptions) []finding {
	if o.netboot.network == "" {
		return fine("none are needed")
	}
	for _, f := range []string{"/usr/lib/ipxe/undionly.kpxe"} {
		if _, err := os.Stat(f); err != nil {
			return lack("apt-get install -y --no-install-recommends ipxe", "%s is not there", f)
		}
	}
	return fine("iPXE is installed")
}

// checkTime asks the kernel whether something keeps its clock right.
func checkTime(context.Context, serveOptions) []finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return doubt("see timedatectl", "the kernel does not tell: %v", err)
	}
	if state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return doubt("apt-get install -y chrony, or systemctl enable --now systemd-timesyncd; the times in the log are this machine's", "the clock is not synchronized")
	}
	return fine("synchronized, estimated error %d µs", t.Esterror)
}

const littleMemory = 1 << 30

func checkMemory(context.Context, serveOptions) []finding {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return doubt("see free -h", "%v", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib uint64
		if n, _ := fmt.Sscanf(s.Text(), "MemAvailable: %d kB", &kib); n == 1 { // other lines do not fit
			if kib<<10 < littleMemory {
				return doubt("give the machine 2 GiB or more: the fold and the database are in memory", "%d MiB available", kib>>10)
			}
			return fine("%.1f GiB available", float64(kib)/(1<<20))
		}
	}
	return doubt("see free -h", "/proc/meminfo does not tell what is available")
}

const fewFiles = 16384

func checkFiles(context.Context, serveOptions) []finding {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return doubt("see ulimit -n", "%v", err)
	}
	if l.Max < fewFiles {
		return doubt(fmt.Sprintf("LimitNOFILE=%d in the unit, as the package's has it; each machine and client takes one", fewFiles), "at most %d", l.Max)
	}
	return fine("at most %d", l.Max)
}

// checkAlerts reads what the senders of alerts need.
func checkAlerts(_ context.Context, o serveOptions) []finding {
	senders, err := o.alerts.senders()
	if err != nil {
		return lack("see the flags --alert-… of serve", "%v", err)
	}
	if len(senders) == 0 {
		return fine("sent to nobody (--alert-webhook, --alert-mail-relay); \"cloudengine alert ls\" shows them")
	}
	var to []string
	for _, s := range senders {
		to = append(to, s.Name())
	}
	return fine("sent by %s", strings.Join(to, " and "))
}
