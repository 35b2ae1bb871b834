package verify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
)

// LiveStorage is what one storage node, proxy or host answered when it was asked what it sees of storage.
type LiveStorage struct {
	Missing string // why there is no answer; then all else is empty
	Boot    string
	Seen    events.StorageReport
	Maps    []events.MappedReport // a host's; nil: its agent did not tell
}

// What to do about storage.
const (
	nextWriter = "find out at once which machine writes: \"cloudengine history array\" tells who should; switch the other off " +
		"(\"cloudengine machine power off\")"
	nextExport = "its node does not follow DESIRED, or could not: \"cloudengine disk show\" has its message; look at the agent's log there"
	nextArray  = "\"cloudengine array show\" tells what its owner last reported; look at the agent's log there"
)

// StorageMachines lists the storage nodes, the proxies, and the hosts that are on a fabric: they are asked live.
func (c *Cloud) StorageMachines() []events.MachineID {
	var out []events.MachineID
	hosts := c.hostsOnFabrics()
	for _, m := range rows[projections.Machine](c, events.KindMachine) {
		var roles []string
		stores := json.Unmarshal(m.Roles, &roles) == nil && (slices.Contains(roles, events.RoleStorageNode) || slices.Contains(roles, events.RoleProxy))
		if stores || hosts[m.ID] {
			out = append(out, events.MachineID(m.ID))
		}
	}
	return out
}

// LiveStorage compares what storage nodes, proxies and hosts answered with what the log says. Each machine that was asked is in live.
func (c *Cloud) LiveStorage(live map[events.MachineID]LiveStorage) []Finding {
	v := &storageVisit{c: c, operations: c.operations(), active: map[events.ArrayID][]string{}, inUse: map[string]bool{}}
	hosts := c.hostsOnFabrics()
	for _, id := range keys(live) {
		m := row[projections.Machine](c, events.KindMachine, string(id))
		if m == nil {
			continue // it was removed meanwhile
		}
		if v.answered(m, live[id]) {
			v.disks(m, live[id].Seen)
			v.exports(m, live[id].Seen)
			v.arrays(m, live[id].Seen)
			if hosts[m.ID] {
				v.maps(m, live[id])
			}
		}
	}
	for _, id := range keys(v.active) {
		if on := v.active[id]; len(on) > 1 {
			v.find(Critical, "two_owners", "array", string(id), c.array(string(id)), "I2: several proxies have it active", "one",
				strings.Join(on, ", "), nextWriter)
		}
	}
	return v.out.All
}

// storageVisit is the comparison of all that answered.
type storageVisit struct {
	c          *Cloud
	operations map[string]*projections.Operation
	active     map[events.ArrayID][]string // names of the proxies that have it active
	inUse      map[string]bool             // host and array: it maps volumes of it
	out        List
}

func (v *storageVisit) find(s Severity, check, kind, id, name, what, want, have, next string) {
	v.out.Add(Finding{Section: Storage, Severity: s, Check: check, Kind: kind, ID: id, Name: name, What: what, Want: want, Have: have, Next: next,
		Moving: underWay(v.operations[id])})
}

// array names an array.
func (c *Cloud) array(id string) string {
	if a := row[projections.Array](c, events.KindArray, id); a != nil {
		return a.Name
	}
	return id
}

// answered says whether a machine's answer can be compared.
func (v *storageVisit) answered(m *projections.Machine, l LiveStorage) bool {
	off := m.State == projections.MachineOff || m.Boot == nil
	switch {
	case l.Missing != "" && off:
	case l.Missing != "":
		v.find(Unknown, "unanswered", "machine", m.ID, m.Name, "it does not answer ("+l.Missing+"): what it gives or has is not known", "", "?",
			"look at its console and network; silence proves nothing: what it owns is not taken over before its power is proven off")
	case off:
		v.find(Critical, "off_and_answers", "machine", m.ID, m.Name, "I5: its power was proven off, and its agent answers", "no answer",
			"boot "+l.Boot, nextPower)
	case l.Boot != *m.Boot:
		v.find(Wrong, "wrong_boot", "machine", m.ID, m.Name, "its agent answers from another boot than the one that is enrolled", *m.Boot, l.Boot, nextBoot)
	default:
		return true
	}
	return false
}

// disks: each disk that the log knows is there, and what is on legs is ours.
func (v *storageVisit) disks(m *projections.Machine, seen events.StorageReport) {
	there := map[string]events.DiskReport{}
	for _, d := range seen.Disks {
		there[string(events.DiskIDOf(d.Serial))] = d
	}
	for _, d := range rows[projections.Disk](v.c, events.KindDisk) {
		have, ok := there[d.ID]
		switch {
		case d.Node != m.ID || d.Gone:
		case !ok:
			v.find(Wrong, "disk_missing", "disk", d.ID, d.Serial, "storage node "+m.Name+" does not have it any more", "there", "not there",
				nextReport)
		case d.Array != nil && have.Signature != "":
			v.find(Wrong, "leg_foreign", "disk", d.ID, d.Serial, "it is a leg, and something else is on it", "array "+v.c.array(*d.Array), have.Signature,
				"do not let it be synced before you know what wrote to it: \"cloudengine array show\"")
		}
	}
}

// exports: a leg is given to the array's owner and to nobody else (I2).
func (v *storageVisit) exports(m *projections.Machine, seen events.StorageReport) {
	listed := map[string]bool{}
	for _, x := range seen.Exports {
		listed[string(x.Disk)] = true
		d := row[projections.Disk](v.c, events.KindDisk, string(x.Disk))
		if d == nil || d.Node != m.ID {
			if len(x.To) > 0 {
				v.find(Wrong, "export_unknown", "disk", string(x.Disk), "", "machine "+m.Name+" exports a disk that the log does not know there",
					"nobody", v.names(x.To), nextExport)
			}
			continue
		}
		owner := v.ownerOf(d)
		for _, to := range x.To {
			if string(to) != owner {
				v.find(Critical, "other_writer", "disk", d.ID, d.Serial, "I2: a machine that does not own the array can write to the disk",
					v.name(owner), v.name(string(to)), nextWriter)
			}
		}
		if d.ExportState != nil && *d.ExportState != x.State {
			v.find(Wrong, "export_state", "disk", d.ID, d.Serial, "its export is not as its storage node last reported", *d.ExportState, x.State,
				nextExport)
		}
	}
	if m.StorageReady == nil || !*m.StorageReady {
		return // it has just booted, and exports nothing before it is told
	}
	for _, d := range rows[projections.Disk](v.c, events.KindDisk) {
		if d.Node == m.ID && !d.Gone && d.Array != nil && v.ownerOf(d) != "" && !listed[d.ID] {
			v.find(Wrong, "export_missing", "disk", d.ID, d.Serial, "it is a leg of an array that has an owner, and is not exported",
				v.name(v.ownerOf(d)), "nobody", nextExport)
		}
	}
}

// ownerOf gives the machine that may write to a disk; empty: nobody.
func (v *storageVisit) ownerOf(d *projections.Disk) string {
	if d.Array == nil {
		return ""
	}
	if a := row[projections.Array](v.c, events.KindArray, *d.Array); a != nil && a.Owner != nil {
		return *a.Owner
	}
	return ""
}

func (v *storageVisit) name(id string) string {
	if id == "" {
		return "nobody"
	}
	return v.c.host(id)
}

func (v *storageVisit) names(ids []events.MachineID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = v.c.host(string(id))
	}
	return strings.Join(out, ", ")
}

// arrays: an array is active on its owner alone, under the owner's epoch, and as the owner last reported.
func (v *storageVisit) arrays(m *projections.Machine, seen events.StorageReport) {
	listed := map[string]events.ArrayReport{}
	for _, x := range seen.Arrays {
		listed[string(x.Array)] = x
		a := row[projections.Array](v.c, events.KindArray, string(x.Array))
		if x.State != events.ArrayActive {
			continue
		}
		v.active[x.Array] = append(v.active[x.Array], m.Name)
		if a == nil || a.Owner == nil || *a.Owner != m.ID || a.Epoch == nil || *a.Epoch != x.Epoch.String() {
			want := "unknown to the log"
			if a != nil {
				want = "owner " + v.name(text(a.Owner)) + ", epoch " + text(a.Epoch)
			}
			v.find(Critical, "not_owner", "array", string(x.Array), v.c.array(string(x.Array)), "I2: a proxy has it active and does not own it so", want,
				fmt.Sprintf("%s, epoch %s", m.Name, x.Epoch), nextWriter)
		}
	}
	for _, a := range rows[projections.Array](v.c, events.KindArray) {
		if text(a.Owner) == m.ID {
			v.owned(m, a, listed[a.ID])
		}
	}
}

// owned compares what the owner of an array sees with what it last reported. x is empty if it did not tell.
func (v *storageVisit) owned(m *projections.Machine, a *projections.Array, x events.ArrayReport) {
	if a.State != projections.ArrayStarting && a.State != x.State {
		v.find(Wrong, "array_state", "array", a.ID, a.Name, "it is not as its owner "+m.Name+" last reported", a.State, x.State, nextArray)
		return
	}
	var legs []string
	if json.Unmarshal(a.LegStates, &legs) == nil && len(legs) > 0 && x.State == events.ArrayActive && !slices.Equal(legs, x.Legs) {
		v.find(Wrong, "array_legs", "array", a.ID, a.Name, "its legs are not as its owner "+m.Name+" last reported", strings.Join(legs, " "),
			strings.Join(x.Legs, " "), nextArray)
	}
	if x.State == events.ArrayActive {
		v.records(m, a, x)
	}
}

// records: each volume that was ready has its record on the array, with the extents that the log says.
func (v *storageVisit) records(m *projections.Machine, a *projections.Array, x events.ArrayReport) {
	for _, vol := range rows[projections.Volume](v.c, events.KindVolume) {
		if vol.Array == a.ID && vol.State == projections.VolumeIsReady && !slices.Contains(x.Ready, events.VolumeID(vol.ID)) {
			v.volume(Wrong, "record_missing", vol, "its record on array "+a.Name+" is missing, or not as the log says, on owner "+m.Name, "there", "not there", nextArray)
		}
	}
}

// text gives what may be missing.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
