package projections

import (
	"encoding/json"
	"time"

	"cloudengine/events"
)

// Bootimage is a row of bootimages: a version of the boot image that machines may be told to boot.
type Bootimage struct {
	ID        string          `json:"id"`
	Name      *string         `json:"name"`
	Kernel    string          `json:"kernel"`
	Size      int64           `json:"size"`
	Packages  int             `json:"packages"`
	IsDefault bool            `json:"is_default"`
	Manifest  json.RawMessage `json:"manifest"`
	CreatedAt time.Time       `json:"created_at"`
	ChangedBy uint64          `json:"changed_by"`
	ChangedAt time.Time       `json:"changed_at"`
}

var bootimageTable = newTable[Bootimage]("bootimages")

var bootimages = &Model{
	Kind: events.KindBootimage, Table: bootimageTable, Scope: ScopeNone, Named: "name", event: bootimageEvent,
	Reads: []string{"bootimage.registered.v1", "bootimage.removed.v1", "bootimage.default_set.v1"},
}

func bootimageEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.BootimageRegistered:
		f.put(bootimageTable, id, &Bootimage{ID: id, Name: known(d.Name), Kernel: d.Manifest.Kernel, Size: d.Manifest.Size(),
			Packages: len(d.Manifest.Packages), Manifest: asJSON(d.Manifest), CreatedAt: f.now()})
	case events.BootimageRemoved:
		f.delete(bootimageTable, id)
	case events.BootimageDefaultSet:
		if err := changeIf(f, bootimageTable, d.Before, func(b *Bootimage) { b.IsDefault = false }); err != nil {
			return err
		}
		return change(f, bootimageTable, id, func(b *Bootimage) { b.IsDefault = true })
	}
	return nil
}

// defaultImage is the version that machines boot which have none of their own; nil: none was set.
func defaultImage(f *fold) (*string, error) {
	rows, err := all[Bootimage](f, bootimageTable)
	for _, b := range rows {
		if b.IsDefault {
			return &b.ID, err
		}
	}
	return nil, err
}

// machinesFollow: a new default is what machines boot next that have no image of their own.
func machinesFollow(f *fold, version string) error {
	rows, err := all[Machine](f, machineTable)
	for _, m := range rows {
		if m.ImageWanted == nil {
			m.ImageNext = &version
			f.put(machineTable, m.ID, m)
		}
	}
	return err
}

// Discovered is a row of discovered: a machine that asked for a boot and is not known.
type Discovered struct {
	ID           string    `json:"id"`
	MAC          string    `json:"mac"`
	Class        *string   `json:"class"`
	Serial       *string   `json:"serial"`
	UUID         *string   `json:"uuid"`
	Manufacturer *string   `json:"manufacturer"`
	Product      *string   `json:"product"`
	FoundAt      time.Time `json:"found_at"`
	ChangedBy    uint64    `json:"changed_by"`
	ChangedAt    time.Time `json:"changed_at"`
}

var discoveredTable = newTable[Discovered]("discovered")

var discovered = &Model{
	Kind: events.KindDiscovered, Table: discoveredTable, Scope: ScopeNone, Named: "mac", event: discoveredEvent,
	Reads: []string{"discovered.found.v1", "discovered.dropped.v1", "discovered.added.v1"},
}

func discoveredEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	d, found := e.Data.(events.DiscoveredFound)
	if !found {
		f.delete(discoveredTable, id)
		return nil
	}
	have, err := lookup[Discovered](f, discoveredTable, id)
	if err != nil {
		return err
	}
	row := &Discovered{ID: id, MAC: d.MAC, Class: known(d.Class), Serial: known(d.Serial), UUID: known(d.UUID), Manufacturer: known(d.Manufacturer),
		Product: known(d.Product), FoundAt: f.now()}
	if have != nil { // now it says what it is
		row.FoundAt = have.FoundAt
	}
	f.put(discoveredTable, id, row)
	return nil
}
