package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// advert is how often the active machine says that it is. The other one takes over after three of them and a fraction of a fourth
// (RFC 5798, 6.1), when both sides are silent.
const advert = 300 * time.Millisecond

// Files of a gateway, in its directory.
const (
	keepalivedFile = "keepalived.conf"
	conntrackdFile = "conntrackd.conf"
	controlFile    = "conntrackd.ctl"
	lockFile       = "conntrackd.lock"
	pidFile        = "keepalived.pid"
	vrrpPidFile    = "vrrp.pid"
	roleFile       = "role"
)

// syncPort is the UDP port of conntrackd.
const syncPort = 3780

// keepalived gives the configuration of the election. There are two instances of VRRP, one on each side, in one group: keepalived lets a
// group take over only when all its instances want to (they hear nobody), and gives up all of it when one has lost its link. Packets
// go to the other member's address alone: who else is on the segment is not heard.
func (w Wish) keepalived(dir, notify string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global_defs {\n\trouter_id member%d\n\tscript_user root\n\tenable_script_security\n", w.Member)
	b.WriteString("\tvrrp_version 3\n\tvrrp_priority -20\n}\n")
	fmt.Fprintf(&b, "vrrp_sync_group pair {\n\tgroup {\n\t\t%s\n\t\t%s\n\t}\n", inner, outer)
	for _, role := range []string{RoleMaster, RoleBackup, RoleFault} {
		fmt.Fprintf(&b, "\tnotify_%s \"%s %s %s\"\n", role, notify, dir, role)
	}
	b.WriteString("}\n")
	var in, out []string
	for _, s := range w.Subnets {
		in = append(in, fmt.Sprintf("%s/%d", s.Gateway, netip.MustParsePrefix(s.CIDR).Bits()))
	}
	out = append(out, w.Address)
	for _, p := range w.Public {
		out = append(out, p.Address+"/32")
	}
	// the quick part of a takeover, without the start of a larger program: until it is done packets of known connections are dropped
	w.instance(&b, inner, in, fmt.Sprintf("\tnotify_master \"%s -C %s/%s -c\"\n", conntrackdProgram, dir, conntrackdFile))
	w.instance(&b, outer, out, fmt.Sprintf("\tvirtual_routes {\n\t\t0.0.0.0/0 via %s dev %s\n\t}\n", w.Router, outer))
	return b.String()
}

// instance writes one side. A packet of VRRP has room for few addresses: the first is in it, the others come and go with that one.
func (w Wish) instance(b *strings.Builder, device string, addresses []string, more string) {
	fmt.Fprintf(b, "vrrp_instance %s {\n\tstate BACKUP\n\tnopreempt\n\tinterface %s\n\tvirtual_router_id %d\n", device, device, 1+w.Slot%255)
	fmt.Fprintf(b, "\tpriority %d\n\tadvert_int %.2f\n\tgarp_master_delay 1\n\tgarp_master_refresh 2\n", 101-w.Member, advert.Seconds())
	fmt.Fprintf(b, "\tunicast_src_ip %s\n\tunicast_peer {\n\t\t%s\n\t}\n", w.own(device, w.Member).Addr(), w.own(device, w.peer()).Addr())
	fmt.Fprintf(b, "\tvirtual_ipaddress {\n\t\t%s dev %s\n\t}\n", addresses[0], device)
	if len(addresses) > 1 {
		b.WriteString("\tvirtual_ipaddress_excluded {\n")
		for _, a := range addresses[1:] {
			fmt.Fprintf(b, "\t\t%s dev %s\n", a, device)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString(more + "}\n")
}

// conntrackd gives the configuration of what keeps connections in step. The other one's are kept in a cache, where they do not
// grow old, and are put into the kernel at a takeover: those that are put there as they come have ended after five minutes (the kernel sees
// none of their packets), however much they are used. Its own connections, and VRRP's, are not told.
func (w Wish) conntrackd(dir string) string {
	return fmt.Sprintf(`Sync {
	Mode FTFW {
		DisableExternalCache Off
		CommitTimeout 3600
		PurgeTimeout 5
	}
	UDP {
		IPv4_address %[1]s
		IPv4_Destination_Address %[2]s
		Port %[3]d
		Interface %[4]s
		SndSocketBuffer 1249280
		RcvSocketBuffer 1249280
		Checksum On
	}
}
General {
	Systemd Off
	HashSize 32768
	HashLimit 131072
	LogFile Off
	Syslog Off
	LockFile %[5]s/%[7]s
	UNIX {
		Path %[5]s/%[6]s
	}
	NetlinkBufferSize 2097152
	NetlinkBufferSizeMaxGrowth 8388608
	NetlinkEventsReliable On
	Filter From Userspace {
		Protocol Accept {
			TCP
			UDP
			ICMP
		}
		Address Ignore {
			IPv4_address 127.0.0.1
			IPv4_address %[1]s
			IPv4_address %[2]s
		}
	}
}
`, w.own(inner, w.Member).Addr(), w.own(inner, w.peer()).Addr(), syncPort, inner, dir, controlFile, lockFile)
}
