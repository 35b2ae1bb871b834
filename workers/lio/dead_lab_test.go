//go:build lab

package lio_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/lio"
	"cloudengine/workers/modprobe"
	"cloudengine/workers/workertest/wire"
)

// TestDeadSRP: the initiator falls silent in the middle of large writes, and the target is not told.
//
//	go run ./e2e/lab -disks 2 -nets 2 ./workers/lio -test.run TestDead -test.v
func TestDeadSRP(t *testing.T) {
	for _, m := range []string{"crc32_generic", "rdma_rxe", "rdma_cm", "ib_srp", "sd_mod"} {
		must(t, modprobe.Load(m))
	}
	wire.Join(t, [2]string{"eth0", "eth1"}, [2]string{"10.9.0.1", "10.9.0.2"})
	for _, i := range []string{"0", "1"} {
		must(t, netlink.RdmaLinkAdd("rxe"+i, "rxe", "eth"+i))
	}
	s := lio.Kernel("", self, modprobe.Load)
	until(t, "the device has a GID", func() bool {
		_, err := lio.PortName("", lio.SRP, self, "rxe0")
		return err == nil
	})
	name, err := lio.PortName("", lio.SRP, self, "rxe0")
	must(t, err)
	card, err := netlink.LinkByName("eth1")
	must(t, err)
	initiator, err := lio.Initiator(lio.SRP, asOwner, card.Attrs().HardwareAddr.String())
	must(t, err)
	port := lio.Port{Transport: lio.SRP, Name: name}
	bring(t, s, wish(port, initiator, 0, 1))
	until(t, "login", func() bool {
		guid := events.TargetSRP(self)
		err := os.WriteFile("/sys/class/infiniband_srp/srp-rxe1-1/add_target", []byte(fmt.Sprintf(
			"id_ext=%s,ioc_guid=%s,initiator_ext=%s,src=10.9.0.2,dest=10.9.0.1:5555,queue_size=32,max_cmd_per_lun=16,tl_retry_count=2", guid, guid,
			events.InitiatorSRP(asOwner))), 0)
		t.Logf("login: %v", err)
		return err == nil
	})
	stuck(t, s, port, initiator)
}

// stuck lets commands reach the target and nothing reach the initiator: each write waits for data that the target asks for in vain. Then
// the initiator falls silent as well.
func stuck(t *testing.T, s *lio.System, port lio.Port, initiator string) {
	dev := waitDevice(t, serial(0))
	must(t, os.WriteFile("/sys/block/"+strings.TrimPrefix(dev, "/dev/")+"/device/timeout", []byte("3"), 0))
	f, err := os.OpenFile(dev, os.O_RDWR|unix.O_DIRECT, 0)
	must(t, err)
	defer f.Close()
	target, err := netlink.LinkByName("eth0")
	must(t, err)
	card, err := netlink.LinkByName("eth1")
	must(t, err)
	wrong := net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	must(t, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: target.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP("10.9.0.2"), HardwareAddr: wrong,
	}))
	received := func() string { return commands(t, port.Name) }
	before := received()
	ended := make(chan error, 2)
	for i := range int64(2) {
		b, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		must(t, err)
		go func() {
			_, err := f.WriteAt(b, i<<20)
			ended <- err
		}()
	}
	until(t, "the target has the commands", func() bool { return received() != before })
	must(t, netlink.LinkSetDown(card))
	began := time.Now()
	bring(t, s, wish(port, initiator, 1))
	t.Logf("revoked from a dead initiator in %s", time.Since(began).Round(time.Millisecond))
	must(t, netlink.LinkSetUp(card))
	for range 2 {
		if err := <-ended; err == nil {
			t.Error("a write that waited has succeeded")
		}
	}
}

// commands gives the counts of commands of the LUN objects of an SRP port.
func commands(t *testing.T, port string) string {
	t.Helper()
	files, err := filepath.Glob("/sys/kernel/config/target/srpt/" + port + "/ce-port/lun/lun_*/statistics/scsi_tgt_port/in_cmds")
	must(t, err)
	var out string
	for _, name := range files {
		b, err := os.ReadFile(name)
		must(t, err)
		out += string(b) + " "
	}
	return out
}
