package wire

import "cloudengine/events"

// VerifySubject is where the log is verified, by administrators of the platform. The body is {}.
func VerifySubject(actor string) string { return "read." + actor + ".log.verify" }

// VerifyAnswer is what was found in the whole log, read from its start.
type VerifyAnswer struct {
	Blocks    uint64          `json:"blocks"`
	Decisions uint64          `json:"decisions"`
	Term      uint64          `json:"term"`
	Head      string          `json:"head"`      // SHA-256 (hex) of the last block
	LiveRuns  int             `json:"live_runs"` // run grants that are live
	Broken    []string        `json:"broken"`    // invariants that do not hold; empty: all is well
	Error     *events.Outcome `json:"error,omitempty"`
}
