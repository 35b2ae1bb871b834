package initiator

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/workers/fabric"
)

const (
	self = events.MachineID("host-1")
	node = events.MachineID("node-1")
)

// tree is a sysfs in a directory, and a kernel that answers what is written there.
type tree struct {
	t    *testing.T
	i    *Initiator
	mu   sync.Mutex
	said []string // writes and calls, in order

	logins   []error // what the next logins end with; then nil
	logouts  []int   // what the next calls of iscsiadm --logout end with; then 0
	units    []unit  // that new hosts get, and scans find
	replies  map[string][]reply
	nextHost int
	nextDisk int
}

type unit struct {
	number int
	naa    string
	kind   string // "0": a disk
}

func newTree(t *testing.T) *tree {
	x := &tree{t: t, nextHost: 2, replies: map[string][]reply{}}
	x.i = &Initiator{Self: self, Root: t.TempDir(), Links: func() []fabric.Link {
		return []fabric.Link{{Transport: fabric.ISCSI, Address: netip.MustParsePrefix("10.1.0.5/24")},
			{Transport: fabric.SRP, RDMA: "rxe_eth1", Address: netip.MustParsePrefix("10.2.0.5/24")}}
	}}
	x.i.edges = edges{
		put: x.put, iscsiadm: x.iscsiadm, pause: time.Millisecond,
		ensure:  func(context.Context) error { return nil },
		answers: func(context.Context, string) error { return nil },
		command: x.command,
	}
	return x
}

func (x *tree) write(value string, parts ...string) {
	path := x.i.path(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		x.t.Error(err)
	}
	if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
		x.t.Error(err)
	}
}

func (x *tree) link(target, name string) {
	name, target = x.i.path(name), x.i.path(target)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		x.t.Error(err)
	}
	if err := os.Symlink(target, name); err != nil {
		x.t.Error(err)
	}
}

// host makes a SCSI host with the units that there are.
func (x *tree) host(below string) (int, string) {
	n := x.nextHost
	x.nextHost++
	dir := fmt.Sprintf("sys/devices/%s/host%d", below, n)
	x.write("", fmt.Sprintf("sys/class/scsi_host/host%d/scan", n))
	x.write("", dir, "uevent")
	return n, dir
}

// scan makes what is missing of the units.
func (x *tree) scan(n int, dir string) {
	for _, u := range x.units {
		place := fmt.Sprintf("%d:0:0:%d", n, u.number)
		if _, err := os.Lstat(x.i.path("sys/class/scsi_device", place)); err == nil {
			continue
		}
		at := filepath.Join(dir, fmt.Sprintf("target%d:0:0", n), place)
		for name, value := range map[string]string{
			"type": u.kind, "wwid": "naa." + u.naa, "state": "running", "timeout": "30", "rescan": "", "delete": "",
		} {
			x.write(value, at, name)
		}
		x.link(at, "sys/class/scsi_device/"+place+"/device")
		if u.kind != "0" {
			continue
		}
		disk := "sd" + string(rune('a'+x.nextDisk))
		x.write(strconv.Itoa(2048), at, "block", disk, "size")
		x.write(fmt.Sprintf("8:%d", 16*x.nextDisk), at, "block", disk, "dev")
		x.nextDisk++
		x.link(at, filepath.Join(at, "block", disk, "device"))
		x.link(filepath.Join(at, "block", disk), "sys/block/"+disk)
	}
}

func (x *tree) srp(id string) {
	n, dir := x.host("virtual/infiniband")
	x.write("0x"+id, fmt.Sprintf("sys/class/scsi_host/host%d/id_ext", n))
	for name, value := range map[string]string{
		"state": "running", "delete": "", "reconnect_delay": "10", "fast_io_fail_tmo": "15", "dev_loss_tmo": "600",
	} {
		x.write(value, fmt.Sprintf("sys/class/srp_remote_ports/port-%d:1", n), name)
	}
	x.scan(n, dir)
}

func (x *tree) iscsi(iqn, address string) {
	n, dir := x.host("platform")
	session := fmt.Sprintf("session%d", n)
	x.write("", dir, session, "uevent")
	x.link(filepath.Join(dir, session), "sys/class/iscsi_session/"+session+"/device")
	x.write(iqn, "sys/class/iscsi_session", session, "targetname")
	x.write("LOGGED_IN", "sys/class/iscsi_session", session, "state")
	x.write(address, fmt.Sprintf("sys/class/iscsi_connection/connection%d:0/persistent_address", n))
}

func (x *tree) remove(parts ...string) {
	if err := os.RemoveAll(x.i.path(parts...)); err != nil {
		x.t.Error(err)
	}
}

// end removes a host and its disks.
func (x *tree) end(n int) {
	units, _ := x.i.units(n)
	for _, u := range units {
		x.drop(u)
	}
	x.remove("sys/class/scsi_host", fmt.Sprintf("host%d", n))
	x.remove("sys/class/srp_remote_ports", fmt.Sprintf("port-%d:1", n))
	x.remove("sys/class/iscsi_session", fmt.Sprintf("session%d", n))
}

func (x *tree) drop(place string) {
	if disk := x.i.disk(place); disk != "" {
		x.remove("sys/block", disk)
	}
	x.remove("sys/class/scsi_device", place)
}

func (x *tree) put(path, value string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	short, _ := filepath.Rel(x.i.Root, path)
	x.said = append(x.said, short+"="+value)
	if strings.HasSuffix(path, "/add_target") {
		if len(x.logins) > 0 {
			err := x.logins[0]
			x.logins = x.logins[1:]
			if err != nil {
				return &os.PathError{Op: "write", Path: path, Err: err}
			}
		}
		x.srp(strings.TrimPrefix(strings.Split(value, ",")[0], "id_ext="))
		return nil
	}
	if err := os.Truncate(path, 0); err != nil { // a file in a directory keeps what is not written over
		return err
	}
	if err := writeFile(path, value); err != nil {
		return err
	}
	var n int
	switch dir, name := filepath.Split(path); {
	case name == "delete" && strings.Contains(dir, "srp_remote_ports"):
		_, _ = fmt.Sscanf(filepath.Base(dir), "port-%d:", &n)
		x.end(n)
	case name == "delete":
		x.drop(filepath.Base(filepath.Dir(filepath.Dir(dir))))
	case name == "scan":
		_, _ = fmt.Sscanf(filepath.Base(dir), "host%d", &n)
		x.scan(n, fmt.Sprintf("sys/devices/scan/host%d", n))
	}
	return nil
}

func (x *tree) iscsiadm(_ context.Context, args ...string) (int, string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.said = append(x.said, "iscsiadm "+strings.Join(args, " "))
	switch args[len(args)-1] {
	case "--login":
		if len(x.logins) > 0 {
			exit := x.logins[0].(exitError)
			x.logins = x.logins[1:]
			return int(exit), "no", nil
		}
		x.iscsi(args[3], args[5])
	case "--logout":
		if len(x.logouts) > 0 {
			exit := x.logouts[0]
			x.logouts = x.logouts[1:]
			return exit, "not now", nil
		}
		sessions, _ := x.i.iscsiSessions()
		for _, s := range sessions {
			if s.ID == args[3] {
				x.end(s.Host)
			}
		}
	}
	return 0, "", nil
}

type exitError int

func (e exitError) Error() string { return strconv.Itoa(int(e)) }

func (x *tree) command(dev string, cdb []byte) (reply, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(cdb) != 6 {
		x.t.Errorf("command of %d bytes", len(cdb))
	}
	r := x.replies[dev]
	if len(r) == 0 {
		return reply{}, nil
	}
	if len(r) > 1 {
		x.replies[dev] = r[1:]
	}
	return r[0], nil
}
