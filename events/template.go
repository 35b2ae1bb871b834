package events

// TemplateCreated makes something that guests are made from. Kind kernel: a kernel and a ramdisk, fetched by digest.
type TemplateCreated struct {
	Name      string    `json:"name"`
	Account   AccountID `json:"account,omitempty"` // empty: for every account
	Type      string    `json:"type"`              // kernel
	Kernel    Blob      `json:"kernel"`
	Ramdisk   Blob      `json:"ramdisk,omitzero"`
	Cmdline   string    `json:"cmdline,omitempty"`
	MinMemory int       `json:"min_memory_mib"`
}

// Blob is a file by its digest.
type Blob struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// EventType gives the wire name.
func (TemplateCreated) EventType() string { return "template.created.v1" }

// TemplateDeleted ends a template. VMs that were made from it keep its data.
type TemplateDeleted struct{}

// EventType gives the wire name.
func (TemplateDeleted) EventType() string { return "template.deleted.v1" }
