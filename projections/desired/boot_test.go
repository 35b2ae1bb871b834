package desired_test

import (
	"slices"
	"testing"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

func TestADomainThatBootsFromItsDisk(t *testing.T) {
	c := newStorageCloud(t)
	epoch := events.Epoch{Term: 1, Counter: 1}
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p2", Boot: "p2-1", Epoch: epoch})
	image := events.Blob{SHA256: "ab", Size: 7}
	c.on(events.KindVM, "vm", events.VMCreated{Name: "web", Boot: events.BootDisk, Keys: []string{"ssh-ed25519 AAAA"}})
	c.on(events.KindVolume, "v", events.VolumeCreated{Name: "web", Array: "a", Pool: "pool", Segments: []events.Segment{{Start: 0, Count: 10}},
		Template: "t", Source: image, SourceBytes: 5 << 20})
	c.on(events.KindVolume, "v", events.VolumeAttached{VM: "vm", Slot: events.SlotPrimary})
	if v := c.owned().Volumes; len(v) != 1 || v[0].Source != image || v[0].SourceBytes != 5<<20 || v[0].Keep != 0 {
		t.Fatalf("the owner is told of a volume to fill: %+v", v)
	}
	c.on(events.KindVolume, "v", events.VolumeReady{})
	c.on(events.KindVM, "vm", events.VMRunWanted{Want: events.WantRunning})
	c.on(events.KindVM, "vm", events.VMRunGranted{Host: "h1", Boot: "h1-1", Epoch: epoch})
	d, _ := c.doc("h1", document.KindDomain, "vm")
	b := body[document.Domain](t, d)
	if d.Version != document.VersionBoot || b.Boot != document.BootDisk || len(b.Disks) != 1 || b.Kernel != (events.Blob{}) {
		t.Fatalf("version %d, domain %+v", d.Version, b)
	}
	if b.Seed == nil || b.Seed.Hostname != "web" || !slices.Equal(b.Seed.Keys, []string{"ssh-ed25519 AAAA"}) {
		t.Fatalf("its guest is told %+v", b.Seed)
	}
	c.on(events.KindVM, "vm", events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy})
	if d, _ = c.doc("h1", document.KindDomain, "vm"); d.Version != document.Version || body[document.Domain](t, d).Want != document.Absent {
		t.Fatalf("when it is destroyed: version %d, %s", d.Version, d.Body)
	}
}
