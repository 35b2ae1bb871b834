package benchplan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/dm"
	"cloudengine/workers/lio"
	"cloudengine/workers/md"
	"cloudengine/workers/path"
	"cloudengine/workers/proxy"
	"cloudengine/workers/reserve"
	"cloudengine/workers/storage"
)

// What all machines here are part of.
const (
	boot    = "boot"
	fabric  = events.FabricID("fa000000-0000-4000-8000-000000000001")
	array   = events.ArrayID("a0000000-0000-4000-8000-000000000001")
	node    = events.MachineID("b0000000-0000-4000-8000-000000000001")
	address = "10.0.0.1"
	sectors = 1 << 34 // of the array; 512 bytes each
	extent  = 4       // MiB
	start   = 4       // MiB
	inMiB   = 2048    // sectors
)

// errPlanned says that the machine is not as its documents say, so that something else was measured.
var errPlanned = errors.New("something is to be done")

var epoch = events.Epoch{Term: 1, Counter: 1}

func document(kind events.Kind, id string, body any) (desired.Document, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return desired.Document{}, fmt.Errorf("encode document: %w", err)
	}
	return desired.Document{Version: desired.VersionDisks, Machine: node, Boot: boot, Kind: kind, ID: id,
		Generation: events.Generation{Term: 1, Number: 1}, Body: raw}, nil
}

func documents(kinds []events.Kind, ids []string, bodies []any) (out []desired.Document, err error) {
	for i := range ids {
		d, err := document(kinds[i], ids[i], bodies[i])
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// nothing says that no plan was made.
func nothing(plans []workers.Plan) error {
	if len(plans) > 0 {
		return fmt.Errorf("plan %s: %w", workers.Print(plans[:1]), errPlanned)
	}
	return nil
}

// nodePlanned is a storage node that exports so many disks to one proxy.
func nodePlanned(_ context.Context, n int) (func() error, error) {
	peer := desired.Peer{Machine: node, Address: address, MAC: "52:54:00:01:00:03"}
	port, named := lio.PortName("", lio.ISCSI, node, "")
	initiator, err := lio.Initiator(lio.ISCSI, peer.Machine, peer.MAC)
	seen := storage.Observed{Links: []storage.Link{{Fabric: fabric, Transport: lio.ISCSI, Address: netip.MustParsePrefix(address + "/24"), Port: port}},
		Records: map[events.DiskID]storage.Record{}}
	exports := lio.Port{Transport: lio.ISCSI, Name: port, Addresses: []string{address}, Ready: true}
	var kinds []events.Kind
	var ids []string
	var bodies []any
	for i := range n {
		serial := fmt.Sprint("disk", i)
		id := events.DiskIDOf(serial)
		unit := events.UnitSerial(events.KindDisk, string(id))
		d := storage.Disk{Name: fmt.Sprint("vd", i), DevNo: fmt.Sprint("254:", i), Serial: serial, Bytes: 1 << 40, Health: events.DiskHealthy}
		seen.Disks, seen.Records[id] = append(seen.Disks, d), storage.Record{Array: array, Epoch: epoch}
		seen.Exports.Backstores = append(seen.Exports.Backstores, lio.Backstore{Name: string(id), Device: "/dev/" + d.Name, DevNo: d.DevNo, UnitSerial: unit, Ready: true})
		exports.Grants = append(exports.Grants, lio.Grant{Machine: node, Initiator: initiator, Backstore: string(id), Ready: true})
		kinds, ids = append(kinds, desired.KindExport), append(ids, string(id))
		bodies = append(bodies, desired.Export{Disk: id, Serial: serial, UnitSerial: unit, Fabric: fabric, Array: array, Epoch: epoch, Want: desired.There,
			To: []desired.Peer{peer}})
	}
	seen.Exports.Ports = []lio.Port{exports}
	docs, encoded := documents(kinds, ids, bodies)
	once := func() error { return nothing(storage.PlanExports(docs, seen)) }
	return once, errors.Join(named, err, encoded, once())
}

// arrayPlanned is the owner of an array with so many volumes of three segments each.
func arrayPlanned(_ context.Context, n int) (func() error, error) {
	doc := desired.Array{Array: array, Name: "gold1", Fabric: fabric, Want: desired.Active, Epoch: epoch, Copies: 2, ChunkKiB: 64, ExtentMiB: extent,
		StartMiB: start, Sectors: sectors, UnitSerial: events.UnitSerial(events.KindArray, string(array)), Group: 1}
	records := proxy.Record{Found: true, ExtentMiB: extent, StartMiB: start, Extents: (sectors/inMiB - start) / extent, Volumes: map[events.VolumeID][]events.Segment{}}
	for i := range n {
		id, at := events.VolumeID(fmt.Sprintf("c0000000-0000-4000-8000-%012d", i)), 10*i
		all := []events.Segment{{Start: at, Count: 2}, {Start: at + 3, Count: 1}, {Start: at + 6, Count: 3}}
		doc.Volumes = append(doc.Volumes, desired.Volume{Volume: id, Segments: all, Want: desired.There})
		records.Volumes[id] = all
	}
	seen := proxy.Observed{Boot: boot, Records: map[events.ArrayID]proxy.RecordRead{array: {Record: records}}, Supers: map[string]proxy.Super{},
		Locks: map[string]proxy.Lock{}}
	key, noKey := reserve.KeyOf(array, epoch, boot)
	at := proxy.Node{Transport: lio.ISCSI, Machine: node, Address: address}
	seen.Sessions = []proxy.Session{{Node: at, Live: true}}
	running := md.Array{Name: "md0", DevNo: "9:0", UUID: string(array), State: "clean", Level: "raid10", Layout: 258, RaidDisks: 2, ChunkKiB: 64, Sectors: sectors, SyncAction: "idle"}
	for i, dev := range []string{"sda", "sdb"} {
		doc.Legs = append(doc.Legs, desired.Leg{Slot: i, NAA: dev, At: desired.Peer{Machine: node, Address: address}})
		seen.LUNs = append(seen.LUNs, proxy.LUN{NAA: dev, Dev: dev, Bytes: sectors * dm.SectorSize, State: "running", Node: at})
		seen.Supers[dev] = proxy.Super{Super: md.Super{UUID: string(array)}}
		seen.Locks[dev] = proxy.Lock{Seen: reserve.Seen{Keys: []reserve.Key{key}, Holder: key, Type: reserve.ExclusiveAccess}}
		running.Members = append(running.Members, md.Member{Dev: dev, Slot: i, States: []string{"in_sync"}})
	}
	seen.MD = []proxy.MD{{Array: running, ID: array}}
	own := dm.Device{Name: "ce-own-" + string(array), UUID: "CE-own-" + string(array) + "-" + epoch.String(), Major: 254, Minor: 0, Table: []dm.Target{dm.Linear(0, sectors, "9:0", 0)}}
	front := dm.Device{Name: proxy.FrontName(array), UUID: "CE-array-" + string(array), Major: 254, Minor: 1, Table: []dm.Target{dm.Linear(0, sectors, own.Number(), 0)}}
	seen.Devices = []dm.Device{own, front}
	seen.Exports = []proxy.Export{{Array: array, Transport: lio.ISCSI, Device: dm.Path(front.Name), UnitSerial: doc.UnitSerial, Group: 1, State: proxy.ExportActive}}
	docs, err := documents([]events.Kind{desired.KindFabric, desired.KindArray}, []string{string(fabric), string(array)},
		[]any{desired.Fabric{Fabric: fabric, Transport: lio.ISCSI, Want: desired.There}, doc})
	w := &proxy.Worker{Boot: boot, Name: func(string, desired.Peer) (string, error) { return "", nil }}
	once := func() error { return nothing(w.Plan(docs, seen)) }
	return once, errors.Join(err, noKey, once())
}

// hostPlanned is a host of so many domains with a disk each.
func hostPlanned(_ context.Context, n int) (func() error, error) {
	naa := events.NAA(events.UnitSerial(events.KindArray, string(array)))
	target := path.Target{Transport: lio.ISCSI, Machine: node, Address: address}
	kinds, ids := []events.Kind{desired.KindFabric, desired.KindPath}, []string{string(fabric), string(array)}
	bodies := []any{desired.Fabric{Fabric: fabric, Transport: lio.ISCSI, Want: desired.There},
		desired.Path{Array: array, Fabric: fabric, NAA: naa, Want: desired.There, From: []desired.Peer{{Machine: node, Address: address}}}}
	const mapNumber, bytes = "253:0", int64(sectors) * dm.SectorSize
	seen := path.Observed{Sessions: []path.Session{{Target: target, Live: true}}, LUNs: []path.LUN{{NAA: naa, Dev: "sda", DevNo: "8:0", Bytes: bytes, State: "running", Target: target}},
		Devices: []path.Device{{Name: path.MapName(array), UUID: path.MapUUID(array), DevNo: mapNumber, Open: n, Paths: []path.Path{{DevNo: "8:0", Valid: true}},
			Table: []path.Line{{Length: sectors, Type: "multipath",
				Params: "3 queue_if_no_path pg_init_retries 50 1 alua 1 1 service-time 0 1 2 8:0 1 1"}}}}}
	for i := range n {
		vm, v := fmt.Sprintf("d0000000-0000-4000-8000-%012d", i), events.VolumeID(fmt.Sprintf("c0000000-0000-4000-8000-%012d", i))
		kinds, ids = append(kinds, desired.KindDomain), append(ids, vm)
		bodies = append(bodies, desired.Domain{VM: events.VMID(vm), Want: desired.Running, Disks: []desired.Disk{{Slot: events.SlotPrimary, Volume: v, Array: array, NAA: naa,
			ExtentMiB: extent, StartMiB: start, Segments: []events.Segment{{Start: 2 * i, Count: 1}}}}})
		seen.Devices = append(seen.Devices, path.Device{Name: path.VolumeName(v), UUID: path.VolumeUUID(v), DevNo: fmt.Sprint("253:", i+1), Open: 1,
			Table: []path.Line{dm.Linear(0, extent*inMiB, mapNumber, uint64(start+2*i*extent)*inMiB)}})
	}
	docs, err := documents(kinds, ids, bodies)
	once := func() error { return nothing(path.PlanPaths(docs, seen)) }
	return once, errors.Join(err, once())
}
