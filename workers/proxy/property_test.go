package proxy_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/proxy"
)

// plane is a control plane with one array, as this proxy sees it: it grants, revokes, and believes reports.
type plane struct {
	*engine
	epoch   uint64
	want    string
	made    bool
	known   uint64 // event count
	told    events.Generation
	given   bool // the end of the last grant was proven
	volumes []desired.Volume
	ready   map[events.VolumeID]int // extents
	serial  int
	resync  desired.Resync

	replacing       *replacing
	replaced, ended int
}

// render says what holds now.
func (p *plane) render() {
	a := p.doc(p.want, p.epoch)
	if p.want == desired.Active {
		a.Create, a.MinEvents, a.Resync = !p.made, p.known, p.resync
		a.Replacements = p.replacements()
		for _, v := range p.volumes {
			v.Keep = p.ready[v.Volume]
			a.Volumes = append(a.Volumes, v)
		}
	}
	p.say(a)
	p.told, _ = p.wishes.Generation(events.Ref{Kind: desired.KindArray, ID: string(arrayID)})
}

// believe takes the last report.
func (p *plane) believe(t *rapid.T) {
	r, ok := p.last[arrayID]
	if !ok || r.Generation != p.told {
		return
	}
	switch {
	case p.want != desired.Active:
		p.given = p.given || r.State == events.ArrayStandby || r.State == events.ArrayAbsent
	case r.Epoch.Counter == p.epoch:
		p.made, p.known = p.made || r.Made, max(p.known, r.Events)
		p.legs(t, r)
		p.write(r)
		if r.State == events.ArrayActive {
			p.customers(t, r)
		}
	}
}

// customers write to each volume that is ready, and free the extents of what is wiped.
func (p *plane) customers(t *rapid.T, r events.ArrayReport) {
	changed := false
	for i, v := range slices.Backward(p.volumes) {
		if slices.Contains(r.Wiped, v.Volume) {
			p.volumes = slices.Delete(p.volumes, i, i+1)
			changed = true
		}
	}
	for _, v := range p.volumes {
		if !slices.Contains(r.Ready, v.Volume) || v.Want != desired.There {
			continue
		}
		n := 0
		for _, s := range v.Segments {
			for e := s.Start; e < s.Start+s.Count; e++ {
				if want := holdsAtFirst(v, n); n >= p.ready[v.Volume] && p.w.data[arrayID][e] != want {
					t.Fatalf("volume %s is ready, and its extent %d holds %q, want %q", v.Volume, e, p.w.data[arrayID][e], want)
				}
				n++
				if v.Volume != goldenID {
					p.w.data[arrayID][e] = "of " + string(v.Volume)
				}
			}
		}
		changed = changed || p.ready[v.Volume] != n
		p.ready[v.Volume] = n
	}
	if changed {
		p.render()
	}
}

// mayZero: what customers wrote is lost with their volume only.
func (p *plane) mayZero(_ events.ArrayID, extent int) string {
	for _, v := range p.volumes {
		if v.Want == desired.There && p.w.data[arrayID][extent] == "of "+string(v.Volume) {
			return "it holds " + p.w.data[arrayID][extent]
		}
		if v.Volume == goldenID && v.Want == desired.There && p.ready[goldenID] > 0 && slices.ContainsFunc(v.Segments, func(s events.Segment) bool {
			return s.Start <= extent && extent < s.Start+s.Count
		}) {
			return "it is of a golden volume that was ready"
		}
	}
	return ""
}

// free gives a run of extents that no volume has, or none.
func (p *plane) free(t *rapid.T) []events.Segment {
	used := [extents]bool{}
	for _, v := range p.volumes {
		for _, s := range v.Segments {
			for e := s.Start; e < s.Start+s.Count; e++ {
				used[e] = true
			}
		}
	}
	var all []events.Segment
	for e := range extents {
		if !used[e] {
			all = append(all, events.Segment{Start: e, Count: 1})
		}
	}
	if len(all) == 0 {
		return nil
	}
	out := []events.Segment{}
	for range rapid.IntRange(1, 3).Draw(t, "pieces") {
		i := rapid.IntRange(0, len(all)-1).Draw(t, "piece")
		if !slices.Contains(out, all[i]) {
			out = append(out, all[i])
		}
	}
	return out
}

func (p *plane) change(t *rapid.T) {
	switch rapid.SampledFrom([]string{"grant", "revoke", "again", "fenced", "absent", "silent", "create", "grow", "delete", "golden", "copy", "copy", "server", "elsewhere", "replace", "replace", "cancel", "hold", "go on", "check"}).Draw(t, "change") {
	case "grant":
		if p.want != desired.Active && p.given {
			p.want, p.epoch, p.given = desired.Active, p.epoch+1, false
		}
	case "again": // a human said that the grant was over
		p.want, p.epoch, p.given = desired.Active, p.epoch+1, false
	case "fenced":
		p.fencedOff()
	case "revoke":
		p.want = desired.Standby
	case "absent":
		p.want = desired.Absent
	case "silent":
		p.say(desired.Array{Array: arrayID})
		return
	case "create":
		if s := p.free(t); s != nil {
			p.serial++
			p.volumes = append(p.volumes, desired.Volume{Volume: events.VolumeID(fmt.Sprint("v", p.serial)), Segments: s, Want: desired.There})
		}
	case "golden", "copy":
		p.fromImage(t)
	case "server":
		p.serverFails(rapid.Bool().Draw(t, "fails"))
	case "grow":
		if s := p.free(t); s != nil && len(p.volumes) > 0 && p.volumes[0].Want == desired.There && p.volumes[0].Volume != goldenID {
			p.volumes[0].Segments = append(slices.Clone(p.volumes[0].Segments), s...)
		}
	case "delete":
		if len(p.volumes) > 0 {
			if v := &p.volumes[rapid.IntRange(0, len(p.volumes)-1).Draw(t, "volume")]; v.Volume != goldenID || !p.copying() {
				v.Want = desired.Absent
			}
		}
	case "elsewhere":
		p.elsewhere()
	case "replace":
		p.replace(t)
	case "cancel":
		p.cancel()
	case "hold":
		p.resync.Hold = desired.HoldBehind
	case "go on":
		p.resync.Hold = ""
	case "check":
		p.serial++
		p.resync.Check = events.IntentID(fmt.Sprint("c", p.serial))
	}
	p.render()
}

// fencedOff gives the array to another proxy, which reserves the legs, before this one hears of it.
func (p *plane) fencedOff() {
	if p.want != desired.Active || !p.made {
		return
	}
	p.want, p.epoch, p.given = desired.Standby, p.epoch+1, false
	p.otherOwner()
	p.w.fail = nil // an export whose state cannot be changed stays as it is
	if _, err := p.pass(); err == nil && p.w.exports[arrayID].State == proxy.ExportActive {
		p.w.complain("the export is active, and another owner has the legs")
	}
}

// elsewhere lets another proxy own the array for a while. Nothing of it may run here: that was proven.
func (p *plane) elsewhere() {
	if p.want == desired.Active || !p.given || !p.made {
		return
	}
	if len(p.w.arrays) > 0 {
		p.w.complain("two proxies write")
	}
	p.epoch++
	p.otherOwner()
	for e, x := range p.w.data[arrayID] {
		if x == "old" {
			p.w.data[arrayID][e] = "old and else"
		}
	}
}

func (p *plane) disturb(t *rapid.T) {
	p.w.fail = nil
	switch rapid.IntRange(0, 10).Draw(t, "disturb") {
	case 0:
		p.w.killIn, p.w.after = rapid.IntRange(1, 10).Draw(t, "at"), rapid.Bool().Draw(t, "after")
	case 1:
		left := rapid.IntRange(0, 5).Draw(t, "left")
		p.w.fail = func(string) error {
			if left--; left < 0 {
				return errors.New("injected")
			}
			return nil
		}
	case 2:
		p.restart()
	case 3: // a storage node dies or comes back; the other stays
		n := rapid.IntRange(0, 1).Draw(t, "node")
		for i, d := range p.w.disks {
			d.there = i%2 != n || !d.there
			if i%2 != n {
				d.there = true
			}
		}
	case 4:
		p.term++
		p.offer(desired.KindTerm, "p1", desired.Term{Term: p.term})
		p.offer(desired.KindFabric, "f", desired.Fabric{Fabric: "f", Transport: "srp", Want: desired.There})
		if rapid.Bool().Draw(t, "said again") {
			p.render()
		}
	case 5:
		p.clock.now = p.clock.now.Add(12 * time.Second)
	case 6:
		p.w.checkEnds(0)
	case 7: // a storage node's target begins anew
		n := rapid.IntRange(0, 1).Draw(t, "node")
		for i, d := range p.w.disks {
			if i%2 == n {
				d.unit.Restart()
			}
		}
	case 8:
		p.w.formerOwner(p.epoch)
	}
}

// passes lets the agent look and act some times, a second apart, at most so often.
func (p *plane) passes(t *rapid.T, most int) {
	for range rapid.IntRange(0, most).Draw(t, "passes") {
		if _, err := p.pass(); !errors.Is(err, errKilled) {
			p.believe(t)
		}
		p.clock.now = p.clock.now.Add(time.Second)
		p.check(t)
	}
}

// TestAnyHistory: grants, ends, volumes, deaths of the agent, failing calls, dying nodes, new terms. At no time the array is assembled without
// an active document, or from other legs; nothing is reported as given up that is not; no customer's extent is zeroed; and in the end
// all is as the last document says.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(2, 2)
		w.addSpare(0)
		w.addSpare(1)
		p := &plane{engine: newEngine(w), want: desired.Standby, epoch: 1, given: true, ready: map[events.VolumeID]int{}}
		w.mayZero = p.mayZero
		p.serverFails(false)
		p.render()
		for range rapid.IntRange(1, 25).Draw(t, "rounds") {
			p.change(t)
			p.disturb(t)
			p.passes(t, 8)
		}
		w.fail, w.killIn = nil, 0
		for _, d := range w.disks {
			d.there = true
		}
		p.resync.Hold = ""
		p.serverFails(false)
		for i := range p.volumes {
			p.volumes[i].Try++
		}
		p.render()
		p.settle(t)
		p.believe(t)
		p.settle(t)
		p.final(t)
	})
}

func (p *plane) final(t *rapid.T) {
	t.Helper()
	r := p.last[arrayID]
	want := map[string]string{desired.Active: events.ArrayActive, desired.Standby: events.ArrayStandby, desired.Absent: events.ArrayAbsent}[p.want]
	if r.State != want {
		t.Fatalf("report %+v, want %s", r, want)
	}
	if p.want != desired.Active {
		return
	}
	if p.resync.Check != "" { // it is under way, or done
		if p.w.checkEnds(8); r.Sync != events.SyncCheck && r.Checked != p.resync.Check {
			t.Fatalf("check %s: report %+v", p.resync.Check, r)
		}
		p.settle(t)
		if r = p.last[arrayID]; r.Checked != p.resync.Check {
			t.Fatalf("check %s is done: report %+v", p.resync.Check, r)
		}
	}
	if p.w.exports[arrayID].State != proxy.ExportActive || r.Degraded != 0 {
		t.Fatalf("report %+v, exports %+v", r, p.w.exports)
	}
	for _, v := range p.volumes {
		if v.Want == desired.There && !slices.Contains(r.Ready, v.Volume) || v.Want == desired.Absent && !slices.Contains(r.Wiped, v.Volume) {
			t.Fatalf("volume %+v: report %+v", v, r)
		}
	}
}
