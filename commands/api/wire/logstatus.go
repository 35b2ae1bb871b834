package wire

import "cloudengine/events"

// LogStatusSubject is where the state of the log is asked for.
func LogStatusSubject(actor string) string { return "read." + actor + ".log.status" }

// LogStatus says in which term the log is, and, after a restore, what is still to be found out before anything is started.
type LogStatus struct {
	Applied    uint64          `json:"applied"` // number of the last stored decision
	Term       uint64          `json:"term"`
	Cause      string          `json:"cause"`      // of the term: created, restored, reopened
	Settled    bool            `json:"settled"`    // VMs may be started
	Level      int             `json:"level"`      // of the log
	Servers    []Server        `json:"servers"`    // that made themselves known and are not removed
	Unreported []string        `json:"unreported"` // names of machines that have not said in this term what they run
	Lost       []LostGrant     `json:"lost"`       // domains that run under grants that the log has lost
	Error      *events.Outcome `json:"error,omitempty"`
}

// Server is a managing server.
type Server struct {
	Name    string `json:"name"`
	Release string `json:"release"`
	Level   int    `json:"level"` // the highest level of the log that it can read and write
}

// LostGrant is a domain that runs under a grant of a part of the log that is lost.
type LostGrant struct {
	VM    events.VMID  `json:"vm"`
	Host  string       `json:"host"` // its name
	UUID  string       `json:"uuid"` // of the domain
	Epoch events.Epoch `json:"epoch"`
}
