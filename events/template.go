package events

// Types of templates.
const (
	TemplateKernel = "kernel" // a kernel and a ramdisk, which the host starts
	TemplateDisk   = "disk"   // an image of a disk, which volumes are made from; guests boot from it
)

// TemplateCreated makes something that guests are made from, out of files that are fetched by digest. Kernel, Ramdisk and Cmdline are those of
// TemplateKernel, Disk and DiskBytes those of TemplateDisk; the others are empty.
type TemplateCreated struct {
	Name      string    `json:"name"`
	Account   AccountID `json:"account,omitempty"` // empty: for every account
	Type      string    `json:"type"`              // TemplateKernel …
	Kernel    Blob      `json:"kernel"`
	Ramdisk   Blob      `json:"ramdisk,omitzero"`
	Cmdline   string    `json:"cmdline,omitempty"`
	MinMemory int       `json:"min_memory_mib"`
	Disk      Blob      `json:"disk,omitzero"`        // the image, compressed: one stream of Zstandard
	DiskBytes int64     `json:"disk_bytes,omitempty"` // of the image as it is on a disk: a multiple of SectorSize

	DiskContent string `json:"disk_content_sha256,omitempty"` // digest of the image as it is on a disk; empty: not known
}

// SectorSize is what disks and images of disks are whole multiples of, in bytes.
const SectorSize = 512

// MaxBlob bounds a file that is kept by its digest, in bytes.
const MaxBlob = 64 << 30

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
