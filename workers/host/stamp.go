package host

import (
	"fmt"
	"strconv"
	"time"

	"cloudengine/events"
)

// StampRoot is where stamps are kept in xenstore: below dom0's own part, whose nodes no guest can read or write.
// One directory per domid; it is valid for the domain whose UUID it names, and is left behind when the domain is destroyed, as the
// record of its end, until the control plane has answered.
const StampRoot = "/local/domain/0/cloudengine"

// Stamp says for which grant a domain was made.
type Stamp struct {
	DomID    int
	UUID     string // of the domain
	VM       events.VMID
	Epoch    events.Epoch
	Boot     string
	Restarts int
	Asked    time.Time // when the guest was last asked to shut down
	How      string    // set before it is destroyed for good: how it ends (events.EndedDestroyed …)
	Resizes  int       // of its document, that were carried out
	Type     string    // that it was made as; empty: not known
}

// Names of a stamp's nodes. nodeUUID is written last and makes the stamp valid.
const (
	nodeVM       = "vm"
	nodeEpoch    = "epoch"
	nodeBoot     = "boot"
	nodeRestarts = "restarts"
	nodeAsked    = "asked"
	nodeHow      = "how"
	nodeResizes  = "resizes"
	nodeType     = "type"
	nodeUUID     = "uuid"
)

func stampPath(domid int) string { return StampRoot + "/" + strconv.Itoa(domid) }

// nodes gives what is written, in order.
func (s Stamp) nodes() [][2]string {
	return [][2]string{
		{nodeVM, string(s.VM)}, {nodeEpoch, s.Epoch.String()}, {nodeBoot, s.Boot},
		{nodeRestarts, strconv.Itoa(s.Restarts)}, {nodeResizes, strconv.Itoa(s.Resizes)}, {nodeType, s.Type}, {nodeUUID, s.UUID},
	}
}

// ParseStamp reads the nodes of one directory below StampRoot. ok is false if they are no valid stamp: half written, or not ours.
func ParseStamp(domid int, nodes map[string]string) (s Stamp, ok bool) {
	epoch, err := events.ParseEpoch(nodes[nodeEpoch])
	if err != nil {
		return Stamp{}, false
	}
	restarts, err := strconv.ParseUint(nodes[nodeRestarts], 10, 31)
	if err != nil {
		return Stamp{}, false
	}
	s = Stamp{
		DomID: domid, UUID: nodes[nodeUUID], VM: events.VMID(nodes[nodeVM]), Epoch: epoch,
		Boot: nodes[nodeBoot], Restarts: int(restarts), How: nodes[nodeHow], Type: nodes[nodeType],
	}
	if n, err := strconv.ParseUint(nodes[nodeResizes], 10, 31); err == nil { // a stamp of an earlier version has none
		s.Resizes = int(n)
	}
	if s.UUID == "" || s.VM == "" || s.Boot == "" {
		return Stamp{}, false
	}
	if ms, err := strconv.ParseInt(nodes[nodeAsked], 10, 64); err == nil {
		s.Asked = time.UnixMilli(ms)
	}
	return s, true
}

func formatTime(t time.Time) string { return fmt.Sprint(t.UnixMilli()) }
