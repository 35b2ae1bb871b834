package projections

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"cloudengine/events"
)

// Array is a row of arrays: an md RAID 10 over disks of several storage nodes.
type Array struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Pool       string          `json:"pool"`
	PoolName   string          `json:"pool_name"`
	State      string          `json:"state"`
	Owner      *string         `json:"owner"`
	OwnerName  *string         `json:"owner_name"`
	Boot       *string         `json:"boot"`
	Epoch      *string         `json:"epoch"`
	Revoked    bool            `json:"revoked"`
	Made       bool            `json:"made"`
	Degraded   *int            `json:"degraded"`
	Legs       json.RawMessage `json:"legs"`
	LegStates  json.RawMessage `json:"leg_states"`
	Replacing  json.RawMessage `json:"replacing"`
	Extents    int             `json:"extents"`
	ExtentMiB  int             `json:"extent_mib"`
	StartMiB   int             `json:"start_mib"`
	ChunkKiB   int             `json:"chunk_kib"`
	SizeMiB    int64           `json:"size_mib"`
	FreeMiB    int64           `json:"free_mib"`
	Volumes    int             `json:"volumes"`
	Events     *uint64         `json:"events"`
	Message    *string         `json:"message"`
	DegradedAt *time.Time      `json:"degraded_at"`
	CutOff     json.RawMessage `json:"cut_off"`
	Fencing    json.RawMessage `json:"fencing"`
	FencedOff  json.RawMessage `json:"fenced_off"`
	OwnerSince *time.Time      `json:"owner_since"`

	ResyncLimitKiB int        `json:"resync_limit_kib"`
	ResyncPaused   bool       `json:"resync_paused"`
	SyncNeeds      *string    `json:"sync_needs"`
	SyncRuns       *string    `json:"sync_runs"`
	SyncBehind     *string    `json:"sync_behind"`
	CheckWantedAt  *time.Time `json:"check_wanted_at"`
	CheckStartedAt *time.Time `json:"check_started_at"`
	CheckedAt      *time.Time `json:"checked_at"`
	CheckedSectors *uint64    `json:"checked_sectors"`
	Mismatches     *uint64    `json:"mismatches"`
	DegradedMS     int64      `json:"degraded_ms"`
	UnavailableAt  *time.Time `json:"unavailable_at"`
	UnavailableMS  int64      `json:"unavailable_ms"`

	CreatedAt time.Time `json:"created_at"`
	ChangedBy uint64    `json:"changed_by"`
	ChangedAt time.Time `json:"changed_at"`
}

// ArrayUnowned is the state of an array that no proxy may assemble. Others are those that its owner reports, and starting before it does.
const (
	ArrayUnowned  = "unowned"
	ArrayStarting = "starting"
)

var arrayTable = newTable[Array]("arrays")

var arrays = &Model{
	Kind: events.KindArray, Table: arrayTable, Scope: ScopeNone, Named: "name", event: arrayEvent,
	Reads: []string{"array.created.v1", "array.owner_granted.v1", "array.owner_revoked.v1", "array.owner_ended.v1", "array.observed.v1", "array.path_observed.v1", "array.deleted.v1",
		"array.leg_replacing.v1", "array.leg_replacement_cancelled.v1", "array.leg_replacement_ended.v1", "array.leg_replaced.v1",
		"array.fencing_began.v1", "array.leg_fenced.v1", "array.leg_unfenced.v1", "array.fenced_owner_gone.v1",
		"array.resync_set.v1", "array.sync_seen.v1", "array.resync_held.v1", "array.check_wanted.v1", "array.check_started.v1", "array.checked.v1",
		"volume.created.v1", "volume.golden_created.v1", "volume.grown.v1", "volume.wiped.v1"},
}

func (a *Array) legs() (out []events.Leg, err error) {
	if err = json.Unmarshal(a.Legs, &out); err != nil {
		return nil, fmt.Errorf("read legs of array %s: %w", a.ID, err)
	}
	return out, nil
}

func arrayEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.ArrayCreated:
		p, err := need[Pool](f, poolTable, string(d.Pool))
		if err != nil {
			return err
		}
		mib := int64(d.Extents * p.ExtentMiB)
		f.put(arrayTable, id, &Array{ID: id, Name: d.Name, Pool: string(d.Pool), PoolName: p.Name, State: ArrayUnowned, Legs: asJSON(d.Legs), Extents: d.Extents,
			ExtentMiB: p.ExtentMiB, StartMiB: d.StartMiB, ChunkKiB: d.ChunkKiB, SizeMiB: mib, FreeMiB: mib, ResyncLimitKiB: events.ResyncDefaultKiB, CreatedAt: f.now()})
		return nil
	case events.ArrayDeleted:
		f.delete(arrayTable, id)
		return nil
	case events.ArrayLegReplacing:
		return arrayReplacing(f, id, d)
	}
	if e.Aggregate.Kind == events.KindArray {
		return change(f, arrayTable, id, func(a *Array) {
			was := *a
			arrayChanged(a, e.Data, f.now())
			synced(a, e.Data, f.now())
			served(&was, a, f.now())
		})
	}
	return volumeTakes(f, e, func(v *Volume, extents int) error {
		return change(f, arrayTable, v.Array, func(a *Array) {
			a.FreeMiB -= int64(extents * a.ExtentMiB)
			switch e.Data.(type) {
			case events.VolumeCreated, events.GoldenCreated:
				a.Volumes++
			case events.VolumeWiped:
				a.Volumes--
			}
		})
	})
}

func arrayChanged(a *Array, data events.Payload, now time.Time) {
	switch d := data.(type) {
	case events.ArrayOwnerGranted:
		epoch := d.Epoch.String()
		a.Owner, a.OwnerName, a.Boot, a.Epoch, a.OwnerSince = known(string(d.Proxy)), known(d.ProxyName), known(d.Boot), &epoch, &now
		a.State, a.Revoked, a.Message, a.Degraded, a.LegStates, a.CutOff = ArrayStarting, false, nil, nil, nil, nil
		a.SyncNeeds, a.SyncRuns = nil, nil
	case events.ArrayOwnerRevoked:
		a.Revoked = true
	case events.ArrayOwnerEnded:
		if d.Proof == events.ProofFenced {
			a.FencedOff = listed(a.FencedOff, d.Proxy, true)
		}
		a.Owner, a.OwnerName, a.Boot, a.OwnerSince = nil, nil, nil, nil // the epoch stays: it is the last one
		a.State, a.Revoked, a.Message, a.Degraded, a.LegStates, a.Fencing = ArrayUnowned, false, nil, nil, nil, nil
		a.SyncNeeds, a.SyncRuns = nil, nil
	case events.ArrayLegReplacementCancelled, events.ArrayLegReplacementEnded, events.ArrayLegReplaced:
		arrayReplaced(a, data)
	case events.ArrayFencedOwnerGone:
		a.FencedOff = listed(a.FencedOff, d.Proxy, false)
	case events.ArrayFencingBegan:
		a.Fencing = fencing(d)
	case events.ArrayLegFenced:
		a.Fencing = closeLeg(a.Fencing, d.Disk, true)
	case events.ArrayLegUnfenced:
		a.Fencing = closeLeg(a.Fencing, d.Disk, false)
	case events.ArrayPathObserved:
		a.CutOff = cutOff(a.CutOff, d)
	case events.ArrayObserved:
		a.State, a.Made, a.Message, a.LegStates = d.State, d.Made, known(d.Message), asJSON(d.Legs)
		a.Degraded, a.Events = &d.Degraded, known(d.Events)
		switch {
		case d.Degraded == 0:
			a.DegradedAt = nil
		case a.DegradedAt == nil: // a new owner finds it as the old one left it
			a.DegradedAt = &now
		}
	}
}

// cutOff takes a host into the list of those that lost their way, or out of it.
func cutOff(list json.RawMessage, d events.ArrayPathObserved) json.RawMessage {
	return listed(list, d.Host, d.State == events.PathLost)
}

// listed puts a machine into a list of ids, or takes it out; an empty list is nil.
func listed(list json.RawMessage, m events.MachineID, in bool) json.RawMessage {
	var all []events.MachineID
	_ = json.Unmarshal(list, &all) // nil, or what this has written
	all = slices.DeleteFunc(all, func(x events.MachineID) bool { return x == m })
	if in {
		all = append(all, m)
		slices.Sort(all)
	}
	if len(all) == 0 {
		return nil
	}
	return asJSON(all)
}
