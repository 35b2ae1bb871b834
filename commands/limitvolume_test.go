package commands

import (
	"testing"

	"cloudengine/events"
)

func TestLimitVolume(t *testing.T) {
	w := withArray(t)
	w.createVolume("v1", 100)
	id := w.volume("v1").ID
	for _, bad := range []LimitVolume{
		{Volume: id, ReadBPS: minBPS - 1}, {Volume: id, WriteBPS: -1}, {Volume: id, ReadIOPS: minIOPS - 1}, {Volume: id, WriteIOPS: maxIOPS + 1}, {Volume: id, WriteBPS: maxBPS + 1},
	} {
		w.refused(w.do("volume.limit", bad), events.CodeInvalid, "")
	}
	w.refused(w.do("volume.limit", LimitVolume{Volume: "0190ffff-0000-7000-8000-000000000000"}), events.CodeNotFound, "")
	first := LimitVolume{Volume: id, ReadBPS: minBPS, WriteBPS: maxBPS, ReadIOPS: minIOPS, WriteIOPS: maxIOPS}
	w.must(w.do("volume.limit", first))
	if got, want := w.volume("v1").Limits, (events.DiskLimits{ReadBPS: minBPS, WriteBPS: maxBPS, ReadIOPS: minIOPS, WriteIOPS: maxIOPS}); got != want {
		t.Fatalf("limits %+v", got)
	}
	if d := w.do("volume.limit", first); len(d.Events) != 0 {
		t.Fatalf("the same again decided %v", d.Events)
	}
	w.must(w.do("volume.limit", LimitVolume{Volume: id, WriteIOPS: 20})) // takes the place of all
	if got := w.volume("v1").Limits; got != (events.DiskLimits{WriteIOPS: 20}) {
		t.Fatalf("limits %+v", got)
	}
	w.must(w.do("volume.limit", LimitVolume{Volume: id}))
	if got := w.volume("v1").Limits; got != (events.DiskLimits{}) {
		t.Fatalf("limits %+v", got)
	}
	w.audit()
}
