package main

import (
	"encoding/json"
	"testing"

	"cloudengine/events"
)

func TestWhatAnArraySyncs(t *testing.T) {
	for want, r := range map[string]row{
		"-":                {"resync_paused": false},
		"paused":           {"resync_paused": true},
		"recover":          {"sync_needs": "recover", "sync_runs": "recover", "sync_behind": "b"},
		"recover (waits)":  {"sync_needs": "recover", "sync_behind": "b"},
		"recover (paused)": {"sync_needs": "recover", "sync_behind": "b", "resync_paused": true},
		"check":            {"sync_runs": "check", "check_wanted_at": "2026-11-30T00:00:00Z"},
		"check (waits)":    {"check_wanted_at": "2026-11-30T00:00:00Z"},
	} {
		if got := syncing.cell(r); got != want {
			t.Errorf("%v: %q, want %q", r, got, want)
		}
	}
	if got := resyncLimit.cell(row{"resync_limit_kib": json.Number("20480"), "resync_paused": true}); got != "20MiB/s, paused" {
		t.Errorf("limit: %q", got)
	}
	if got := resyncLimit.cell(row{"resync_limit_kib": json.Number("0")}); got != noLimit {
		t.Errorf("no limit: %q", got)
	}
	sum := lasted("", "degraded_ms", "degraded_at")
	if got := sum.cell(row{"degraded_ms": json.Number("90400"), "degraded_at": "2026-11-30T00:00:00Z"}); got != "1m30s, and since 2026-11-30T00:00:00Z" {
		t.Errorf("sum: %q", got)
	}
	p := progress("gold1", events.ArrayReport{Sync: "check", SyncDone: 435, SyncKiB: 20480, SyncETA: 75})
	if p["done"] != "43.5%" || p["rate"] != "20.0MiB/s" || p["left"] != "1m15s" {
		t.Errorf("progress %v", p)
	}
	if p := progress("gold1", events.ArrayReport{Sync: "check"}); p["rate"] != "?" || p["left"] != "?" {
		t.Errorf("progress that is not known: %v", p)
	}
}
