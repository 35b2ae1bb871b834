package desired_test

import (
	"testing"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

// TestGoldenVolumes: the owner is told what a volume is copied from until it is ready, how often another try was asked for, and the image in any case.
func TestGoldenVolumes(t *testing.T) {
	c := newStorageCloud(t)
	image := events.Blob{SHA256: "feed", Size: 7}
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p2", Boot: "p2-1", Epoch: events.Epoch{Term: 1, Counter: 1}})
	c.on(events.KindVolume, "g", events.GoldenCreated{Name: "t@a", Array: "a", Pool: "pool", Template: "t", Source: image, SourceBytes: 512, SourceContent: "ab",
		Segments: []events.Segment{{Start: 0, Count: 1}}})
	c.on(events.KindVolume, "v", events.VolumeCreated{Name: "v", Array: "a", Pool: "pool", Template: "t", Source: image, SourceBytes: 512, SourceContent: "ab", From: "g",
		Segments: []events.Segment{{Start: 1, Count: 2}}})
	g, v := c.owned().Volumes[0], c.owned().Volumes[1]
	if g.Volume != "g" || g.From != "" || g.Source != image || g.SourceContent != "ab" || v.From != "g" || v.Source != image || v.SourceContent != "ab" {
		t.Fatalf("the owner is told %+v and %+v", g, v)
	}
	before, _ := c.doc("p2", document.KindArray, "a")
	c.on(events.KindVolume, "g", events.VolumeFillFailed{Message: "cut off"})
	if after, _ := c.doc("p2", document.KindArray, "a"); after.Generation != before.Generation {
		t.Fatal("a failure changes what is wanted")
	}
	c.on(events.KindVolume, "g", events.VolumeFillRetried{})
	if g := c.owned().Volumes[0]; g.Try != 1 {
		t.Fatalf("after a retry the owner is told %+v", g)
	}
	c.on(events.KindVolume, "g", events.VolumeReady{})
	c.on(events.KindVolume, "v", events.VolumeReady{})
	g, v = c.owned().Volumes[0], c.owned().Volumes[1]
	if g.Keep != 1 || g.Try != 0 || v.Keep != 2 || v.From != "" {
		t.Fatalf("of ready ones the owner is told %+v and %+v", g, v)
	}
}
