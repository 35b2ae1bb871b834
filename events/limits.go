package events

// DiskLimits bound what a VM may do with a disk. Zero is no limit.
type DiskLimits struct {
	ReadBPS   int64 `json:"read_bps,omitempty"`   // bytes per second
	WriteBPS  int64 `json:"write_bps,omitempty"`  // bytes per second
	ReadIOPS  int64 `json:"read_iops,omitempty"`  // requests per second
	WriteIOPS int64 `json:"write_iops,omitempty"` // requests per second
}

// VolumeLimited gives a volume limits, in the place of those that it had. They hold at once if its VM runs, and wherever it runs later.
type VolumeLimited struct {
	ReadBPS   int64 `json:"read_bps"`   // bytes per second; 0 = no limit
	WriteBPS  int64 `json:"write_bps"`  // bytes per second; 0 = no limit
	ReadIOPS  int64 `json:"read_iops"`  // requests per second; 0 = no limit
	WriteIOPS int64 `json:"write_iops"` // requests per second; 0 = no limit
}

// EventType gives the wire name.
func (VolumeLimited) EventType() string { return "volume.limited.v1" }
