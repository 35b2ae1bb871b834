package host_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/host"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const foreignUUID = "f0e1f0e1-0000-4000-8000-000000000009"

func epoch(n uint64) events.Epoch { return events.Epoch{Term: 1, Counter: n} }

func dom(id int, uuid, state, reason string, ran bool) host.Domain {
	return host.Domain{
		DomID: id, Name: "d" + strconv.Itoa(id), UUID: uuid, State: state, ShutdownReason: reason, Ran: ran, MemoryMiB: 128, VCPUs: 2, Weight: 1,
	}
}

func stampOf(id int, uuid string, vm events.VMID, n uint64) host.Stamp {
	return host.Stamp{DomID: id, UUID: uuid, VM: vm, Epoch: epoch(n), Boot: bootID}
}

type goldenCase struct {
	want    desired.Domain
	orphans []host.OrphanWish
	domains []host.Domain
	stamps  []host.Stamp
	more    []desired.Domain
	models  []int
}

func goldenCases() map[string]goldenCase {
	u := string(vm1)
	run, paused, down := events.DomainRunning, events.DomainPaused, events.DomainShutdown
	one := func(d host.Domain) []host.Domain { return []host.Domain{d} }
	grant := []host.Stamp{stampOf(3, u, vm1, 2)}
	restarted := wish(vm1, desired.Running, 2)
	restarted.Restarts = 1
	heavy := wish(vm1, desired.Running, 2)
	heavy.Weight = 4
	adopting := wish(vm1, desired.Running, 2)
	adopting.Adopt = foreignUUID
	disowned := desired.Domain{VM: vm1, Want: desired.Absent, Epoch: epoch(2), Adopt: foreignUUID}
	asked := stampOf(3, u, vm1, 2)
	asked.Asked = time.Unix(995, 0)
	otherBoot := stampOf(3, u, vm1, 2)
	otherBoot.Boot = "b0070000-0000-4000-8000-000000000000"
	machine, resized := wish(vm1, desired.Running, 2), wish(vm1, desired.Running, 2)
	machine.Type, machine.MaxVCPUs = events.TypeHVM, 4
	resized.Resizes, resized.MemoryMiB, resized.VCPUs = 2, 96, 1
	emulated := []host.Stamp{stampOf(3, u, vm1, 2)}
	emulated[0].Type = events.TypeHVM
	disks := wish(vm1, desired.Running, 2)
	disks.Disks = []desired.Disk{diskOf("xvda", vol1, 3), diskOf("xvdb", vol2, 1)}
	limited := disks
	limited.Disks = []desired.Disk{diskOf("xvda", vol1, 3), diskOf("xvdb", vol2, 1)}
	limited.Disks[0].Limits = events.DiskLimits{ReadBPS: 20 << 20, WriteIOPS: 300}
	disksEnd := disks
	disksEnd.Want = desired.Shutdown
	return map[string]goldenCase{
		"disk_start":             {want: disks},
		"limit_start":            {want: limited},
		"limit_runs":             {want: limited, domains: one(dom(3, u, run, "", true)), stamps: grant},
		"limit_guest_reboot":     {want: limited, domains: one(dom(3, u, down, "reboot", true)), stamps: grant},
		"disk_runs":              {want: disks, domains: one(dom(3, u, run, "", true)), stamps: grant},
		"disk_resume":            {want: disks, domains: one(dom(3, u, paused, "", true)), stamps: grant},
		"disk_guest_reboot":      {want: disks, domains: one(dom(3, u, down, "reboot", true)), stamps: grant},
		"disk_shutdown_paused":   {want: disksEnd, domains: one(dom(3, u, paused, "", true)), stamps: grant},
		"hvm_start":              {want: machine},
		"hvm_runs":               {want: machine, domains: one(dom(3, u, run, "", true)), stamps: emulated, models: []int{3}},
		"hvm_model_lost":         {want: machine, domains: one(dom(3, u, run, "", true)), stamps: emulated},
		"hvm_model_left":         {want: wish(vm1, desired.Absent, 2), stamps: emulated, models: []int{3}},
		"hvm_model_of_nobody":    {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, run, "", true)), stamps: grant, models: []int{9}},
		"resize":                 {want: resized, domains: one(dom(3, u, run, "", true)), stamps: grant},
		"resize_shut_down":       {want: resized, domains: one(dom(3, u, down, "poweroff", true)), stamps: grant},
		"start":                  {want: wish(vm1, desired.Running, 2)},
		"start_paused":           {want: wish(vm1, desired.Paused, 2)},
		"start_two":              {want: wish(vm2, desired.Running, 2), more: []desired.Domain{wish(vm1, desired.Running, 1)}},
		"runs":                   {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, run, "", true)), stamps: grant},
		"resume":                 {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, paused, "", true)), stamps: grant},
		"pause":                  {want: wish(vm1, desired.Paused, 2), domains: one(dom(3, u, run, "", true)), stamps: grant},
		"weight":                 {want: heavy, domains: one(dom(3, u, run, "", true)), stamps: grant},
		"guest_reboot":           {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, down, "reboot", true)), stamps: grant},
		"guest_poweroff":         {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, down, "poweroff", true)), stamps: grant},
		"guest_crash":            {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, events.DomainCrashed, "crash", true)), stamps: grant},
		"restart":                {want: restarted, domains: one(dom(3, u, run, "", true)), stamps: grant},
		"restart_crashed":        {want: restarted, domains: one(dom(3, u, events.DomainCrashed, "crash", true)), stamps: grant},
		"shutdown_ask":           {want: wish(vm1, desired.Shutdown, 2), domains: one(dom(3, u, run, "", true)), stamps: grant},
		"shutdown_asked":         {want: wish(vm1, desired.Shutdown, 2), domains: one(dom(3, u, run, "", true)), stamps: []host.Stamp{asked}},
		"shutdown_paused":        {want: wish(vm1, desired.Shutdown, 2), domains: one(dom(3, u, paused, "", true)), stamps: grant},
		"shutdown_down":          {want: wish(vm1, desired.Shutdown, 2), domains: one(dom(3, u, down, "poweroff", true)), stamps: grant},
		"absent_running":         {want: wish(vm1, desired.Absent, 2), domains: one(dom(3, u, run, "", true)), stamps: grant},
		"absent_down":            {want: wish(vm1, desired.Absent, 2), domains: one(dom(3, u, down, "poweroff", true)), stamps: grant},
		"absent_none":            {want: wish(vm1, desired.Absent, 2)},
		"absent_unstamped_ran":   {want: wish(vm1, desired.Absent, 2), domains: one(dom(3, u, run, "", true))},
		"absent_later_epoch":     {want: wish(vm1, desired.Absent, 1), domains: one(dom(3, u, run, "", true)), stamps: grant},
		"stale_running":          {want: wish(vm1, desired.Running, 3), domains: one(dom(3, u, run, "", true)), stamps: grant},
		"stale_paused":           {want: wish(vm1, desired.Running, 3), domains: one(dom(3, u, paused, "", true)), stamps: grant},
		"stale_absent":           {want: wish(vm1, desired.Absent, 3), domains: one(dom(3, u, run, "", true)), stamps: grant},
		"stale_other_boot":       {want: wish(vm1, desired.Running, 3), domains: one(dom(3, u, run, "", true)), stamps: []host.Stamp{otherBoot}},
		"grant_other_boot":       {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, run, "", true)), stamps: []host.Stamp{otherBoot}},
		"two_for_one":            {want: wish(vm1, desired.Running, 2), domains: []host.Domain{dom(3, u, paused, "", true), dom(4, u, run, "", true)}, stamps: []host.Stamp{stampOf(3, u, vm1, 2), stampOf(4, u, vm1, 2)}},
		"one_and_stale":          {want: wish(vm1, desired.Running, 2), domains: []host.Domain{dom(3, u, run, "", true), dom(4, u, run, "", true)}, stamps: []host.Stamp{stampOf(3, u, vm1, 1), stampOf(4, u, vm1, 2)}},
		"unfinished":             {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, paused, "", false))},
		"unfinished_and_running": {want: wish(vm1, desired.Running, 2), domains: []host.Domain{dom(3, u, run, "", true), dom(4, u, paused, "", false)}, stamps: grant},
		"unstamped_ran":          {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, paused, "", true))},
		"dying":                  {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, events.DomainDying, "", true)), stamps: grant},
		"end_not_told":           {want: wish(vm1, desired.Running, 2), stamps: grant},
		"unknown_want":           {want: wish(vm1, "hibernated", 2), domains: one(dom(3, u, run, "", true)), stamps: grant},
		"adopt":                  {want: adopting, domains: one(dom(5, foreignUUID, run, "", true))},
		"adopt_absent":           {want: disowned, domains: one(dom(5, foreignUUID, run, "", true))}, // I1: not reported as ended while it runs
		"adopt_stamped_other":    {want: adopting, domains: one(dom(5, foreignUUID, run, "", true)), stamps: []host.Stamp{stampOf(5, foreignUUID, vm2, 1)}},
		"adopted_twin":           {want: adopting, domains: []host.Domain{dom(5, foreignUUID, run, "", true), dom(6, u, run, "", true)}, stamps: []host.Stamp{stampOf(6, u, vm1, 2)}},
		"adopted_twin_paused":    {want: adopting, domains: []host.Domain{dom(5, foreignUUID, paused, "", true), dom(6, u, run, "", true)}, stamps: []host.Stamp{stampOf(6, u, vm1, 2)}},
		"adopted_twin_stop":      {want: adopting, domains: []host.Domain{dom(5, foreignUUID, paused, "", true), dom(6, u, run, "", true)}, stamps: []host.Stamp{stampOf(6, u, vm1, 2)}, orphans: []host.OrphanWish{{UUID: foreignUUID}}},
		"adopt_over_orphan":      {want: adopting, domains: one(dom(5, foreignUUID, run, "", true)), orphans: []host.OrphanWish{{UUID: foreignUUID}}},
		"orphan_left":            {want: wish(vm1, desired.Running, 2), domains: []host.Domain{dom(3, u, run, "", true), dom(5, foreignUUID, run, "", true)}, stamps: grant},
		"orphan_stop":            {want: wish(vm1, desired.Absent, 2), domains: one(dom(5, foreignUUID, run, "", true)), orphans: []host.OrphanWish{{UUID: foreignUUID, Generation: events.Generation{Term: 1, Number: 5}}}},
		"orphan_is_ours":         {want: wish(vm1, desired.Running, 2), domains: one(dom(3, u, run, "", true)), stamps: grant, orphans: []host.OrphanWish{{UUID: u}}},
		"orphan_unknown_stamp":   {want: wish(vm1, desired.Absent, 2), domains: one(dom(5, string(vm2), run, "", true)), stamps: []host.Stamp{stampOf(5, string(vm2), vm2, 1)}},
	}
}

func (c goldenCase) observed() host.Observed {
	return host.Observed{Boot: bootID, Now: time.Unix(1000, 0), Domains: c.domains, Stamps: c.stamps, Models: c.models}
}

func (c goldenCase) wishes() []host.Wish {
	g := events.Generation{Term: 1, Number: 7}
	out := []host.Wish{{Domain: c.want, Generation: g}}
	for _, m := range c.more {
		out = append(out, host.Wish{Domain: m, Generation: g})
	}
	return out
}

func TestGoldenPlans(t *testing.T) {
	for name, c := range goldenCases() {
		t.Run(name, func(t *testing.T) {
			plans := host.PlanDomains(c.wishes(), c.orphans, c.observed())
			got := workers.Print(plans)
			snap := host.Describe(c.wishes(), c.observed(), nil)
			for _, d := range snap.Domains {
				got += "reported: domain " + strconv.Itoa(d.DomID) + " " + d.State + " stamped=" + strconv.FormatBool(d.Stamped) + " stale=" + strconv.FormatBool(d.Stale) + "\n"
			}
			for _, e := range snap.Ended {
				got += "reported: end of epoch " + e.Epoch.String() + " " + e.How + "\n"
			}
			golden(t, name, got)
			if again := workers.Print(host.PlanDomains(c.wishes(), c.orphans, c.observed())); again != workers.Print(plans) {
				t.Errorf("the same input gives another plan:\n%s", again)
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "plans", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestFailedListGivesNoPlanAndNoReport(t *testing.T) {
	e := newTestEngine(t, vmDoc(1, wish(vm1, desired.Running, 1)))
	e.h.Fail = func(call string) error {
		if call == "list" {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	if _, err := e.w.Observe(context.Background()); err == nil {
		t.Fatal("a list that failed was taken for a host")
	}
}
