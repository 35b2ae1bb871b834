//go:build lab

package initiator

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/fabric"
	"cloudengine/workers/modprobe"
)

const configfs = "/sys/kernel/config/target"

// plainTarget is a target on this machine, made by hand.
type plainTarget struct {
	t      *testing.T
	target Target
	port   string // directory with lun and acls
	acl    string // name of the initiator
}

var serials = map[string]string{"vda": events.UnitSerial("disk", "lab-a"), "vdb": events.UnitSerial("disk", "lab-b")}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, value string, path ...string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(path...), []byte(value), 0o644))
}

func dir(t *testing.T, path ...string) string {
	t.Helper()
	d := filepath.Join(path...)
	if err := os.Mkdir(d, 0o755); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return d
}

// attach brings both fabrics up, and returns their links.
func attach(t *testing.T) *fabric.Worker {
	t.Helper()
	w := &fabric.Worker{Load: modprobe.Load}
	var docs []desired.Document
	for i, f := range []desired.Fabric{
		{Fabric: "f1", Transport: fabric.SRP, MAC: "eth1", Address: "10.2.0.1/24", MTU: 4200, Want: desired.There},
		{Fabric: "f2", Transport: fabric.ISCSI, MAC: "eth2", Address: "10.1.0.1/24", MTU: 1500, Want: desired.There},
	} {
		card, err := net.InterfaceByName(f.MAC)
		if err != nil {
			t.Fatalf("%v: give the machine cards with -nets 3 and disks with -disks 2", err)
		}
		f.MAC = card.HardwareAddr.String()
		body, err := json.Marshal(f)
		must(t, err)
		docs = append(docs, desired.Document{Kind: desired.KindFabric, ID: fmt.Sprint(i), Body: body})
	}
	for range 3 {
		seen, err := w.Observe(t.Context())
		must(t, err)
		for _, p := range w.Plan(docs, seen) {
			for _, s := range p.Steps {
				must(t, w.Apply(t.Context(), s))
			}
		}
	}
	if len(w.Links()) != 2 {
		t.Fatalf("Links = %+v", w.Links())
	}
	return w
}

// newTarget makes a port for one transport. It gives nothing to anybody yet.
func newTarget(t *testing.T, transport string, links []fabric.Link) *plainTarget {
	t.Helper()
	makeStores(t)
	x := &plainTarget{t: t, target: Target{Transport: transport, Machine: node}}
	for _, l := range links {
		if l.Transport == transport {
			x.target.Address = l.Address.Addr().String()
		}
	}
	if transport == fabric.ISCSI {
		must(t, modprobe.Load("iscsi_target_mod"))
		x.acl = events.InitiatorIQN(self)
		x.port = dir(t, dir(t, dir(t, configfs, "iscsi"), events.TargetIQN(node)), "tpgt_1")
		dir(t, x.port, "np", x.target.Address+":3260")
		set(t, "0", x.port, "attrib/authentication")
		return x
	}
	x.portSRP("rxe_eth1", links[0].MAC)
	return x
}

// makeStores makes the disks of the lab backstores.
func makeStores(t *testing.T) {
	t.Helper()
	must(t, os.MkdirAll("/var/target/pr", 0o755))
	for _, m := range []string{"target_core_mod", "target_core_iblock", "crc32c_generic"} {
		must(t, modprobe.Load(m))
	}
	for i, disk := range []string{"vda", "vdb"} {
		store := filepath.Join(dir(t, configfs, "core", fmt.Sprintf("iblock_%d", i)), disk)
		if _, err := os.Stat(store); err == nil {
			continue
		}
		set(t, "udev_path=/dev/"+disk, dir(t, store), "control")
		set(t, serials[disk], store, "wwn/vpd_unit_serial")
		set(t, "1", store, "enable")
	}
}

// portSRP makes the port on an RDMA device, for an initiator whose card has the MAC.
func (x *plainTarget) portSRP(device, mac string) {
	x.t.Helper()
	must(x.t, modprobe.Load("ib_srpt", "srpt_service_guid=0x"+events.TargetSRP(node), "srpt_srq_size=1024"))
	gid, err := os.ReadFile("/sys/class/infiniband/" + device + "/ports/1/gids/0")
	must(x.t, err)
	name := "0x" + strings.ReplaceAll(strings.TrimSpace(string(gid)), ":", "")
	id, err := fabric.InterfaceID(mac)
	must(x.t, err)
	x.acl = "0x" + events.InitiatorSRP(self) + id
	set(x.t, "5555", dir(x.t, configfs, "srpt"), "discovery_auth/rdma_cm_port")
	x.port = dir(x.t, dir(x.t, configfs, "srpt", name), name)
}

func (x *plainTarget) enable(on string) { set(x.t, on, x.port, "enable") }

// admit and expel say whether the initiator may log in.
func (x *plainTarget) admit() { dir(x.t, x.port, "acls", x.acl) }
func (x *plainTarget) expel() { must(x.t, os.Remove(filepath.Join(x.port, "acls", x.acl))) }

// give gives a disk to the initiator, under a number.
func (x *plainTarget) give(disk string, number int) {
	x.t.Helper()
	lun := dir(x.t, x.port, "lun", fmt.Sprintf("lun_%d", number))
	store := filepath.Join(configfs, "core", map[string]string{"vda": "iblock_0", "vdb": "iblock_1"}[disk], disk)
	must(x.t, os.Symlink(store, filepath.Join(lun, disk)))
	mapped := dir(x.t, x.port, "acls", x.acl, filepath.Base(lun))
	must(x.t, os.Symlink(lun, filepath.Join(mapped, filepath.Base(lun))))
}

func (x *plainTarget) take(disk string, number int) {
	x.t.Helper()
	name := fmt.Sprintf("lun_%d", number)
	mapped, lun := filepath.Join(x.port, "acls", x.acl, name), filepath.Join(x.port, "lun", name)
	for _, p := range []string{filepath.Join(mapped, name), mapped, filepath.Join(lun, disk), lun} {
		must(x.t, os.Remove(p))
	}
}

// state sets the ALUA state of a disk: 0 active, 2 standby, 3 unavailable.
func (x *plainTarget) state(disk, state string) {
	x.t.Helper()
	store := filepath.Join(configfs, "core", map[string]string{"vda": "iblock_0", "vdb": "iblock_1"}[disk], disk)
	set(x.t, state, store, "alua/default_tg_pt_gp/alua_access_state")
}
