package events

// What a machine says of itself when it is asked live (ask.<machine>.inspect). None of it enters the log.

// StampReport is one stamp in a host's xenstore: the grant for which a domain was made. One whose domain is gone is the record of its
// end, until the control plane has answered.
type StampReport struct {
	DomID    int    `json:"domid"`
	UUID     string `json:"uuid"` // of the domain that it was made for
	VM       VMID   `json:"vm"`
	Epoch    Epoch  `json:"epoch"`
	Boot     string `json:"boot"`
	Restarts int    `json:"restarts,omitempty"`
	How      string `json:"how,omitempty"` // EndedDestroyed …; empty: it was not being ended
}

// DocumentReport is one document that an agent holds and obeys.
type DocumentReport struct {
	Kind       Kind       `json:"kind"`
	ID         string     `json:"id"`
	Generation Generation `json:"generation"`
}

// HypervisorReport is what a host's hypervisor says of itself. Memory in MiB.
type HypervisorReport struct {
	Version  string `json:"version"`
	TotalMiB int    `json:"total_mib"`
	FreeMiB  int    `json:"free_mib"`
	PCPUs    int    `json:"pcpus"`
}

// MappedReport is one device of a volume on a host: which sectors of which arrays it is made of, in the order of the volume.
type MappedReport struct {
	Volume    VolumeID     `json:"volume"`
	Lines     []MappedLine `json:"lines"`
	Open      int          `json:"open,omitempty"`      // how often it is open
	Unsettled bool         `json:"unsettled,omitempty"` // it is suspended, or a change of it was cut off
}

// MappedLine is a run of sectors (512 bytes each) of an array, as a device maps them. Array is empty if they are of no array's map.
type MappedLine struct {
	Array   ArrayID `json:"array"`
	From    uint64  `json:"from"` // first sector on the array
	Sectors uint64  `json:"sectors"`
}
