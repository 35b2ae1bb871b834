package projections

import (
	"time"

	"cloudengine/events"
)

// Template is a row of templates.
type Template struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	Account       *string   `json:"account"`
	AccountName   *string   `json:"account_name"`
	Type          string    `json:"type"`
	KernelSHA256  *string   `json:"kernel_sha256"`
	KernelSize    *int64    `json:"kernel_size"`
	RamdiskSHA256 *string   `json:"ramdisk_sha256"`
	RamdiskSize   *int64    `json:"ramdisk_size"`
	Cmdline       *string   `json:"cmdline"`
	MinMemoryMiB  int       `json:"min_memory_mib"`
	DiskSHA256    *string   `json:"disk_sha256"`
	DiskSize      *int64    `json:"disk_size"`
	DiskBytes     *int64    `json:"disk_bytes"`
	DiskContent   *string   `json:"disk_content_sha256"`
	CreatedAt     time.Time `json:"created_at"`
	ChangedBy     uint64    `json:"changed_by"`
	ChangedAt     time.Time `json:"changed_at"`
}

var templateTable = newTable[Template]("templates")

var templates = &Model{
	Kind: events.KindTemplate, Table: templateTable, Scope: ScopeOwnOrAll, Named: "name", event: templateEvent,
	Reads: []string{"template.created.v1", "template.deleted.v1"},
}

func templateEvent(f *fold, e events.Event) error {
	switch d := e.Data.(type) {
	case events.TemplateCreated:
		name, err := accountName(f, d.Account)
		if err != nil {
			return err
		}
		f.put(templateTable, e.Aggregate.ID, &Template{ID: e.Aggregate.ID, Name: d.Name, Account: known(string(d.Account)), AccountName: name, Type: d.Type,
			KernelSHA256: known(d.Kernel.SHA256), KernelSize: known(d.Kernel.Size), RamdiskSHA256: known(d.Ramdisk.SHA256), RamdiskSize: known(d.Ramdisk.Size),
			Cmdline: known(d.Cmdline), MinMemoryMiB: d.MinMemory, DiskSHA256: known(d.Disk.SHA256),
			DiskSize: known(d.Disk.Size), DiskBytes: known(d.DiskBytes), DiskContent: known(d.DiskContent), CreatedAt: f.now()})
	case events.TemplateDeleted:
		f.delete(templateTable, e.Aggregate.ID)
	}
	return nil
}
