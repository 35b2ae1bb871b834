package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/dm"
	"cloudengine/workers/md"
	"cloudengine/workers/reserve"
)

// Observed is what was seen of the machine.
type Observed struct {
	Boot     string
	MD       []MD
	Devices  []dm.Device // of ours
	Exports  []Export
	Sessions []Session
	LUNs     []LUN
	Supers   map[string]Super // by kernel name of a LUN
	Locks    map[string]Lock  // by kernel name of a LUN
	Records  map[events.ArrayID]RecordRead
	Zeroed   map[string]int                     // extents of what is being zeroed that are done, by progress key
	Fills    map[string]Fill                    // how far volumes are filled, by progress key
	Floor    map[events.ArrayID]uint64          // event count that was seen in this boot
	Ages     map[string]time.Duration           // how long what a key names has been so
	Fetches  bool                               // blobs can be had
	Tried    map[string]string                  // why a LUN was not reserved when that was tried last, by NAA
	Checks   map[events.ArrayID]events.IntentID // that were begun by this process
}

// MD is an md array and whose it is.
type MD struct {
	md.Array
	ID events.ArrayID // by its uuid, or by the superblocks of its members; empty: not known
}

// Super is what was read of a leg.
type Super struct {
	md.Super
	Err error // md.ErrNoSuper, or why it could not be read
}

// errSlow says that a device did not answer yet: nothing is known of it.
var errSlow = errors.New("no answer yet")

// RecordRead is what was read of an array's records.
type RecordRead struct {
	Record
	Err error
}

// Prefixes of the names and uuids of our devices.
const (
	frontName = "ce-"
	ownName   = "ce-own-"
	frontUUID = "CE-array-"
	ownUUID   = "CE-own-"
)

// FrontName gives the name of the device that hosts are given of an array.
func FrontName(id events.ArrayID) string { return frontName + string(id) }

func ownerName(id events.ArrayID) string { return ownName + string(id) }

func ownerUUID(id events.ArrayID, e events.Epoch) string {
	return ownUUID + string(id) + "-" + e.String()
}

// ours says whether a device is one of this package.
func ours(d dm.Device) bool {
	return strings.HasPrefix(d.UUID, frontUUID) || strings.HasPrefix(d.UUID, ownUUID)
}

// view is all that is there of one array.
type view struct {
	id     events.ArrayID
	wish   *Wish
	arrays []MD
	front  *dm.Device
	own    *dm.Device
	export *Export
	legs   []legView // of an active wish, by slot
	follow []legView // disks that follow one of them
	record *RecordRead
	key    reserve.Key // of an active wish
	noKey  error       // why there is none
}

// legView is one leg of an active wish.
type legView struct {
	desired.Leg
	lun   *LUN // nil: not there
	super Super
	lock  Lock
}

// device gives an array's device by name and uuid prefix.
func (o Observed) device(name, uuid string) *dm.Device {
	for i, d := range o.Devices {
		if d.Name == name && strings.HasPrefix(d.UUID, uuid) {
			return &o.Devices[i]
		}
	}
	return nil
}

func (o Observed) view(id events.ArrayID, w *Wish) view {
	v := view{id: id, wish: w, front: o.device(FrontName(id), frontUUID), own: o.device(ownerName(id), ownUUID)}
	for _, a := range o.MD {
		if a.ID == id {
			v.arrays = append(v.arrays, a)
		}
	}
	for i, e := range o.Exports {
		if e.Array == id {
			v.export = &o.Exports[i]
		}
	}
	if r, ok := o.Records[id]; ok {
		v.record = &r
	}
	if w == nil || !w.active() || w.Wrong != "" {
		return v
	}
	v.key, v.noKey = reserve.KeyOf(id, w.Epoch, o.Boot)
	for _, l := range w.Legs {
		v.legs = append(v.legs, o.legView(l))
	}
	for _, r := range w.Replacements {
		v.follow = append(v.follow, o.legView(r.Leg))
	}
	return v
}

func (o Observed) legView(l desired.Leg) legView {
	x := legView{Leg: l, lun: o.lun(l)}
	if x.lun != nil {
		x.super, x.lock = o.Supers[x.lun.Dev], o.Locks[x.lun.Dev]
	}
	return x
}

// lun finds a leg: by its NAA, at its storage node if it is seen twice.
func (o Observed) lun(l desired.Leg) *LUN {
	var found *LUN
	for i, x := range o.LUNs {
		if x.NAA == l.NAA && (found == nil || x.Node.Machine == l.At.Machine) {
			found = &o.LUNs[i]
		}
	}
	return found
}

// ids lists the arrays of which anything is there, or a document.
func (o Observed) ids(wishes []Wish) []events.ArrayID {
	set := map[events.ArrayID]bool{}
	for _, w := range wishes {
		set[w.Array.Array] = true
	}
	for _, a := range o.MD {
		if a.ID != "" {
			set[a.ID] = true
		}
	}
	for _, d := range o.Devices {
		for _, p := range []struct{ name, uuid string }{{ownName, ownUUID}, {frontName, frontUUID}} {
			if strings.HasPrefix(d.UUID, p.uuid) {
				set[events.ArrayID(strings.TrimPrefix(d.Name, p.name))] = true
			}
		}
	}
	for _, e := range o.Exports {
		set[e.Array] = true
	}
	var out []events.ArrayID
	for id := range set {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// closed says that all I/O to the front fails.
func (v view) closed() bool {
	return v.front != nil && dm.IsError(v.front.Table) && !v.front.Suspended && !v.front.Pending
}

// epoch gives the epoch under which md was assembled; zero: not known.
func (v view) epoch() events.Epoch {
	if v.own == nil {
		return events.Epoch{}
	}
	e, err := events.ParseEpoch(strings.TrimPrefix(v.own.UUID, ownUUID+string(v.id)+"-"))
	if err != nil {
		return events.Epoch{}
	}
	return e
}

// givenUp says that nothing of the array can be written here.
func (v view) givenUp() bool {
	return len(v.arrays) == 0 && v.own == nil && (v.front == nil || v.closed()) && (v.export == nil || v.export.State != ExportActive)
}

// over says whether a device is nothing but a linear map over another one.
func over(d *dm.Device, number string) bool {
	return d != nil && !d.Suspended && !d.Pending && len(d.Table) == 1 && d.Table[0] == dm.Linear(0, d.Table[0].Length, number, 0)
}

// owned says that md runs once, under the wish's epoch, with the owner device over it.
func (v view) owned() bool {
	return len(v.arrays) == 1 && v.wish != nil && v.own != nil && v.own.UUID == ownerUUID(v.id, v.wish.Epoch) && over(v.own, v.arrays[0].DevNo)
}

// opened says that the front leads to the array.
func (v view) opened() bool {
	return v.owned() && over(v.front, v.own.Number()) && dm.Sectors(v.front.Table) == v.wish.Sectors
}

// serves says that the array takes reads and writes, and that each of its sets has a good copy that answers and is reserved.
func (v view) serves() (bool, string) {
	a := v.arrays[0]
	if !a.Serves() {
		return false, "md says " + a.State
	}
	for set := range a.RaidDisks / max(1, a.Copies()) {
		alive := false
		for i := set * a.Copies(); i < (set+1)*a.Copies(); i++ {
			m := a.InSlot(i)
			alive = alive || m != nil && m.Is("in_sync") && !v.dead(m.Dev) && !v.unlocked(m.Dev)
		}
		if !alive {
			return false, fmt.Sprintf("no good copy of set %d answers, or is reserved", set)
		}
	}
	return true, ""
}

// leg gives the leg, or the disk that follows one, that is a device, or nil.
func (v view) leg(dev string) *legView {
	for _, l := range v.disks() {
		if l.lun != nil && l.lun.Dev == dev {
			return &l
		}
	}
	return nil
}

// dead says that a member cannot be reached: its device is gone, or does not answer any more. Nothing is dead because it is slow.
func (v view) dead(dev string) bool {
	l := v.leg(dev)
	if l == nil {
		return true
	}
	return l.lun.State == "offline" || l.lun.State == "transport-offline" || l.super.Err != nil && !errors.Is(l.super.Err, errSlow) && !refused(l.super.Err) &&
		!errors.Is(l.super.Err, md.ErrNoSuper) && !errors.Is(l.super.Err, md.ErrDamaged)
}
