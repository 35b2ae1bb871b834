package commands

import (
	"testing"

	"cloudengine/events"
)

func TestLimitNIC(t *testing.T) {
	w := newNetworkWorld(t)
	nic := nicIn(t, w.onNetwork("a", "back"))
	id := w.s.networks.macs[nic.MAC]
	for _, bad := range []LimitNIC{{NIC: id, InBPS: minNICBPS - 1}, {NIC: id, OutBPS: -1}, {NIC: id, OutBPS: 1}, {NIC: id, InBPS: maxNICBPS + 1}} {
		w.refused(w.do("nic.limit", bad), events.CodeInvalid, "")
	}
	w.refused(w.do("nic.limit", LimitNIC{NIC: "0190ffff-0000-7000-8000-000000000000"}), events.CodeNotFound, "")
	both := LimitNIC{NIC: id, InBPS: minNICBPS, OutBPS: maxNICBPS}
	w.must(w.do("nic.limit", both))
	if got := w.s.networks.nics[id].Limits; got != (events.NICLimited{InBPS: minNICBPS, OutBPS: maxNICBPS}) {
		t.Fatalf("limits %+v", got)
	}
	if d := w.do("nic.limit", both); len(d.Events) != 0 {
		t.Fatalf("the same again decided %v", d.Events)
	}
	w.must(w.do("nic.limit", LimitNIC{NIC: id, OutBPS: minNICBPS})) // takes the place of both
	if got := w.s.networks.nics[id].Limits; got != (events.NICLimited{OutBPS: minNICBPS}) {
		t.Fatalf("limits %+v", got)
	}
	w.must(w.do("nic.limit", LimitNIC{NIC: id}))
	if got := w.s.networks.nics[id].Limits; got != (events.NICLimited{}) {
		t.Fatalf("limits %+v", got)
	}
	w.audit()
}
