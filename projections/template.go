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
	KernelSHA256  string    `json:"kernel_sha256"`
	KernelSize    int64     `json:"kernel_size"`
	RamdiskSHA256 *string   `json:"ramdisk_sha256"`
	RamdiskSize   *int64    `json:"ramdisk_size"`
	Cmdline       *string   `json:"cmdline"`
	MinMemoryMiB  int       `json:"min_memory_mib"`
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
			KernelSHA256: d.Kernel.SHA256, KernelSize: d.Kernel.Size, RamdiskSHA256: known(d.Ramdisk.SHA256), RamdiskSize: known(d.Ramdisk.Size),
			Cmdline: known(d.Cmdline), MinMemoryMiB: d.MinMemory, CreatedAt: f.now()})
	case events.TemplateDeleted:
		f.delete(templateTable, e.Aggregate.ID)
	}
	return nil
}
