//go:build lab

package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
)

// TestRealLoop: the worker in the loop of package workers, with a document that comes while another is carried out.
func TestRealLoop(t *testing.T) {
	x, _ := newLab(t)
	loop := workers.NewLoop(looped{x.worker}, x.wishes, workers.Options{Interval: 200 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	give := func(a desired.Array) {
		t.Helper()
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		x.number++
		if v, err := loop.Offer(desired.Document{Version: 1, Machine: "p1", Boot: boot, Kind: desired.KindArray, ID: string(arrayID),
			Generation: events.Generation{Term: 1, Number: x.number}, Body: b}); v != workers.Taken || err != nil {
			t.Fatal(v, err)
		}
	}
	wait := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); !f(); {
			if time.Now().After(end) {
				t.Fatalf("%s: not in time", what)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	give(x.doc(desired.Active, 1, fresh, volume(v1ID, desired.There, events.Segment{Start: 0, Count: 14})))
	wait("md", func() bool { all, err := md.List(""); return err == nil && len(all) == 1 })
	give(x.doc(desired.Standby, 1))
	wait("the end of md", func() bool { all, err := md.List(""); return err == nil && len(all) == 0 })
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// looped fits the worker to the loop.
type looped struct{ *proxy.Worker }

func (looped) Describe([]desired.Document, proxy.Observed, map[events.Ref]bool) workers.Snapshot {
	return workers.Snapshot{}
}
