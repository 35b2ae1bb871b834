package events

// Segment is a run of extents of an array.
type Segment struct {
	Start int `json:"start"` // first extent, counted from 0
	Count int `json:"count"` // extents
}

// VolumeCreated decides which extents of which array belong to a volume. None of them belongs to another.
type VolumeCreated struct {
	Name     string     `json:"name"`
	Account  AccountID  `json:"account"`
	Pool     PoolID     `json:"pool"`               // that it is in
	Array    ArrayID    `json:"array"`              // that its extents are of
	Segments []Segment  `json:"segments"`           // in the order of the volume
	Template TemplateID `json:"template,omitempty"` // of kind disk: what is copied onto it first
	Source   Blob       `json:"source,omitzero"`    // that template's image, compressed

	SourceBytes   int64  `json:"source_bytes,omitempty"`          // that the image has on the volume, from its first byte on; what follows is zero
	SourceContent string `json:"source_content_sha256,omitempty"` // digest of those bytes; empty: not known

	From VolumeID `json:"from,omitempty"` // golden volume on the same array that it is copied from; empty: its image is fetched
}

// EventType gives the wire name.
func (VolumeCreated) EventType() string { return "volume.created.v1" }

// GoldenCreated makes a volume that is the image of a template itself, kept on its array for others to be copied from. It belongs to no account,
// is no disk of a VM, and is never written again once it is filled.
type GoldenCreated struct {
	Name     string     `json:"name"`     // of its template and its array; none that people can give
	Pool     PoolID     `json:"pool"`     // that it is in
	Array    ArrayID    `json:"array"`    // that its extents are of
	Segments []Segment  `json:"segments"` // in the order of the volume
	Template TemplateID `json:"template"`
	Source   Blob       `json:"source"` // that template's image, compressed

	SourceBytes   int64  `json:"source_bytes"`                    // that the image has on the volume, from its first byte on; what follows is zero
	SourceContent string `json:"source_content_sha256,omitempty"` // digest of those bytes; empty: not known
}

// EventType gives the wire name.
func (GoldenCreated) EventType() string { return "volume.golden_created.v1" }

// Volume says the same as of a volume without an account.
func (g GoldenCreated) Volume() VolumeCreated {
	return VolumeCreated{Name: g.Name, Pool: g.Pool, Array: g.Array, Segments: g.Segments, Template: g.Template, Source: g.Source,
		SourceBytes: g.SourceBytes, SourceContent: g.SourceContent}
}

// VolumeGrown adds extents at the volume's end.
type VolumeGrown struct {
	Segments []Segment `json:"segments"` // all of them, as they are now
}

// EventType gives the wire name.
func (VolumeGrown) EventType() string { return "volume.grown.v1" }

// VolumeReady says that the owner of its array has written the volume's record, and filled it if it is made from a template.
type VolumeReady struct{}

// EventType gives the wire name.
func (VolumeReady) EventType() string { return "volume.ready.v1" }

// VolumeFillFailed says why the owner of its array could not fill a volume the last time. It tries again by itself, later and later.
type VolumeFillFailed struct {
	Message string `json:"message"`
}

// EventType gives the wire name.
func (VolumeFillFailed) EventType() string { return "volume.fill_failed.v1" }

// VolumeFillRetried asks for another try at once, of a volume that could not be filled.
type VolumeFillRetried struct{}

// EventType gives the wire name.
func (VolumeFillRetried) EventType() string { return "volume.fill_retried.v1" }

// Slots of a VM's disks.
const (
	SlotPrimary   = "xvda"
	SlotSecondary = "xvdb"
)

// VolumeAttached makes a volume the disk of a VM.
type VolumeAttached struct {
	VM   VMID   `json:"vm"`
	Slot string `json:"slot"` // where the guest sees it
}

// EventType gives the wire name.
func (VolumeAttached) EventType() string { return "volume.attached.v1" }

// VolumeDetached takes it away again. The VM does not run.
type VolumeDetached struct {
	VM VMID `json:"vm"`
}

// EventType gives the wire name.
func (VolumeDetached) EventType() string { return "volume.detached.v1" }

// VolumeDeleted says that a volume is no more. Its extents belong to nobody else until they are wiped.
type VolumeDeleted struct{}

// EventType gives the wire name.
func (VolumeDeleted) EventType() string { return "volume.deleted.v1" }

// VolumeWiped says that nothing is left of a deleted volume: its extents are free.
type VolumeWiped struct {
	Proxy MachineID `json:"proxy"`
	Epoch Epoch     `json:"epoch"` // under which the owner wiped them
}

// EventType gives the wire name.
func (VolumeWiped) EventType() string { return "volume.wiped.v1" }
