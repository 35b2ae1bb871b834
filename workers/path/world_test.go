package path

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/dm"
)

const (
	fabricID = events.FabricID("fa000000-0000-4000-8000-000000000001")
	arrayA   = events.ArrayID("a0000000-0000-4000-8000-00000000000a")
	arrayB   = events.ArrayID("a0000000-0000-4000-8000-00000000000b")
	proxy1   = events.MachineID("b0000000-0000-4000-8000-000000000001")
	proxy2   = events.MachineID("b0000000-0000-4000-8000-000000000002")
	vol1     = events.VolumeID("c0000000-0000-4000-8000-000000000001")
	vol2     = events.VolumeID("c0000000-0000-4000-8000-000000000002")
	vm1      = events.VMID("d0000000-0000-4000-8000-000000000001")
	mib      = int64(1) << 20
)

func naa(a events.ArrayID) string {
	return events.NAA(events.UnitSerial(events.KindArray, string(a)))
}

func doc(n uint64, kind events.Kind, id string, body any) desired.Document {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return desired.Document{Version: desired.VersionDisks, Machine: "m", Boot: "b", Kind: kind, ID: id,
		Generation: events.Generation{Term: 1, Number: n}, Body: b}
}

func fabricDoc() desired.Document {
	return doc(1, desired.KindFabric, string(fabricID), desired.Fabric{Fabric: fabricID, Transport: "iscsi", Want: desired.There})
}

func pathDoc(n uint64, a events.ArrayID, want string) desired.Document {
	p := desired.Path{Array: a, Fabric: fabricID, NAA: naa(a), Want: want}
	if want == desired.There {
		p.From = []desired.Peer{{Machine: proxy1, Address: "10.0.0.1"}, {Machine: proxy2, Address: "10.0.0.2"}}
	}
	return doc(n, desired.KindPath, string(a), p)
}

func disk(v events.VolumeID, a events.ArrayID, segments ...events.Segment) desired.Disk {
	return desired.Disk{Slot: "xvda", Volume: v, Array: a, NAA: naa(a), ExtentMiB: 4, StartMiB: 1, Segments: segments}
}

func vmDoc(n uint64, vm events.VMID, want string, disks ...desired.Disk) desired.Document {
	return doc(n, desired.KindDomain, string(vm), desired.Domain{VM: vm, Want: want, Disks: disks})
}

func target(m events.MachineID) Target {
	return Target{Transport: "iscsi", Machine: m, Address: "10.0.0." + string(m[len(m)-1])}
}

// world is what a host can see: proxies, and a kernel that insists on what the real one insists on. It notes what must never happen.
type world struct {
	mu       sync.Mutex
	exports  map[events.MachineID]map[events.ArrayID]int64 // bytes
	active   map[events.ArrayID]events.MachineID
	down     map[events.MachineID]bool
	sessions map[events.MachineID]bool
	luns     []LUN
	next     int
	devices  map[string]*Device
	wrong    []string
	calls    []string
}

func newWorld(bytes int64) *world {
	w := &world{exports: map[events.MachineID]map[events.ArrayID]int64{}, active: map[events.ArrayID]events.MachineID{arrayA: proxy1, arrayB: proxy2},
		down: map[events.MachineID]bool{}, sessions: map[events.MachineID]bool{}, devices: map[string]*Device{}}
	for _, m := range []events.MachineID{proxy1, proxy2} {
		w.exports[m] = map[events.ArrayID]int64{arrayA: bytes, arrayB: bytes}
	}
	return w
}

func (w *world) note(format string, args ...any) {
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
}

var errDown = errors.New("it does not answer")

func (w *world) Login(_ context.Context, t Target) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("login %s", t.Machine)
	if w.down[t.Machine] {
		return errDown
	}
	w.sessions[t.Machine] = true
	w.scan(t)
	return nil
}

func (w *world) Rescan(_ context.Context, t Target) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("rescan %s", t.Machine)
	if w.down[t.Machine] || !w.sessions[t.Machine] {
		return errDown
	}
	w.scan(t)
	return nil
}

func (w *world) scan(t Target) {
	for _, a := range []events.ArrayID{arrayA, arrayB} {
		bytes, exported := w.exports[t.Machine][a]
		i := slices.IndexFunc(w.luns, func(l LUN) bool { return l.Target == t && l.NAA == naa(a) })
		switch {
		case exported && i >= 0:
			w.luns[i].Bytes = bytes
		case exported:
			w.next++
			name, number := "sd"+strconv.Itoa(w.next), "8:"+strconv.Itoa(16*w.next)
			w.luns = append(w.luns, LUN{NAA: naa(a), Dev: name, DevNo: number, Bytes: bytes, State: "running", Target: t})
		case i >= 0:
			w.luns = slices.Delete(w.luns, i, i+1)
		}
	}
}

func (w *world) Logout(_ context.Context, t Target) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("logout %s", t.Machine)
	w.drop(t.Machine)
	return nil
}

// drop ends a session with all its disks.
func (w *world) drop(m events.MachineID) {
	delete(w.sessions, m)
	w.luns = slices.DeleteFunc(w.luns, func(l LUN) bool { return l.Target.Machine == m })
}

func (w *world) Sessions(context.Context) ([]Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Session
	for _, m := range []events.MachineID{proxy1, proxy2} {
		if w.sessions[m] {
			out = append(out, Session{Target: target(m), State: "LOGGED_IN", Live: !w.down[m]})
		}
	}
	return out, nil
}

func (w *world) LUNs(context.Context) ([]LUN, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.luns), nil
}

func (w *world) Probe(_ context.Context, dev string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probe(dev)
}

func (w *world) probe(dev string) error {
	i := slices.IndexFunc(w.luns, func(l LUN) bool { return l.Dev == dev })
	if i < 0 || w.down[w.luns[i].Target.Machine] {
		return errDown
	}
	for a, m := range w.active {
		if naa(a) == w.luns[i].NAA && m == w.luns[i].Target.Machine {
			return nil
		}
	}
	return errors.New("standby")
}

func (w *world) List() ([]Device, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Device
	for _, d := range w.devices {
		x := *d
		x.Paths = slices.Clone(d.Paths)
		for _, other := range w.devices {
			for _, l := range other.Table {
				if over(l) == d.DevNo {
					x.Open++
					break
				}
			}
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (w *world) Maps() ([]Device, error) {
	all, err := w.List()
	return slices.DeleteFunc(all, func(d Device) bool { _, is := arrayOf(d.UUID); return !is }), err
}

func (w *world) Paths(name string) ([]Path, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.devices[name]; d != nil {
		return slices.Clone(d.Paths), nil
	}
	return nil, errNoDisk
}

func (w *world) Create(name, uuid string, table []Line) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("create %s", name)
	if w.devices[name] != nil {
		return errors.New("the name is taken")
	}
	w.next++
	d := &Device{Name: name, UUID: uuid, DevNo: "253:" + strconv.Itoa(w.next)}
	if err := w.load(d, table); err != nil {
		return err
	}
	w.devices[name] = d
	return nil
}

// load gives a device a table whose devices must be there and large enough.
func (w *world) load(d *Device, table []Line) error {
	var paths []Path
	for _, l := range table {
		if l.Type == typeMultipath {
			for _, word := range strings.Fields(l.Params) {
				if strings.HasPrefix(word, "8:") {
					i := slices.IndexFunc(w.luns, func(u LUN) bool { return u.DevNo == word })
					if i < 0 || w.luns[i].Bytes < int64(l.Length)*dm.SectorSize {
						return fmt.Errorf("path %s is not there or too small", word)
					}
					paths = append(paths, Path{word, true})
				}
			}
			continue
		}
		devNo, from, ok := linear(l)
		if !ok || !slices.ContainsFunc(w.all(), func(x *Device) bool { return x.DevNo == devNo && int64(from+l.Length)*dm.SectorSize <= x.Bytes() }) {
			return fmt.Errorf("line %v lies on nothing", l)
		}
	}
	if d.Open > 0 && !grows(d.Table, table) && len(paths) == 0 {
		w.wrong = append(w.wrong, "device "+d.Name+" was moved while it was open")
	}
	d.Table, d.Paths, d.Unsettled = table, paths, false
	return nil
}

func (w *world) all() []*Device {
	var out []*Device
	for _, d := range w.devices {
		out = append(out, d)
	}
	return out
}

func (w *world) Swap(name string, table []Line) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("swap %s", name)
	d := w.devices[name]
	if dm.Sectors(table) < dm.Sectors(d.Table) {
		w.wrong = append(w.wrong, "map "+name+" has shrunk")
	}
	return w.load(d, table)
}

func (w *world) Reload(name string, table []Line) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("reload %s", name)
	return w.load(w.devices[name], table)
}

func (w *world) Tell(name, text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("tell %s %s", name, text)
	word, devNo, _ := strings.Cut(text, " ")
	for i, p := range w.devices[name].Paths {
		if p.DevNo == devNo {
			w.devices[name].Paths[i].Valid = word == reinstatePath
		}
	}
	return nil
}

func (w *world) Remove(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("remove %s", name)
	d := w.devices[name]
	if d == nil {
		return nil
	}
	for _, x := range w.all() {
		for _, l := range x.Table {
			if over(l) == d.DevNo {
				return errors.New("it is in use")
			}
		}
	}
	if d.Open > 0 {
		w.wrong = append(w.wrong, "remove was tried of "+name+", which is open")
		return errors.New("it is open")
	}
	delete(w.devices, name)
	return nil
}

func (w *world) Node(string) error { return nil }
