package wire

import (
	"cloudengine/events"
	"cloudengine/projections/verify"
)

// CloudVerifySubject is where the whole cloud is verified, by operators of the platform.
func CloudVerifySubject(actor string) string { return "read." + actor + ".cloud.verify" }

// CloudProgressSubject is where is told how far a verification is.
func CloudProgressSubject(actor string) string { return "read." + actor + ".cloud.progress" }

// CloudVerifyRequest is the body of read.<actor>.cloud.verify: it begins a verification, or waits on for the end of one (run).
type CloudVerifyRequest struct {
	Run      string   `json:"run,omitempty"`       // of an answer that said running
	Sections []string `json:"sections,omitempty"`  // log, rows, desired, hosts, files, power; empty: all but power
	TimeoutS int      `json:"timeout_s,omitempty"` // 1…600, 0 = 300; what is not done by then is told as unanswered
}

// CloudVerifyAnswer is what was found. The log is read in any case: all else is compared with it.
type CloudVerifyAnswer struct {
	Run      string           `json:"run,omitempty"`
	Running  bool             `json:"running,omitempty"` // it is not at its end: ask again with run; there is nothing else in this answer
	Decision uint64           `json:"decision"`          // number of the last decision that was read
	Blocks   uint64           `json:"blocks"`
	Term     uint64           `json:"term"`
	Head     string           `json:"head"`      // SHA-256 (hex) of the last block
	LiveRuns int              `json:"live_runs"` // run grants that are live
	Clean    bool             `json:"clean"`     // nothing was found, and everything answered
	Sections []VerifySection  `json:"sections"`
	Findings []verify.Finding `json:"findings"`       // the worst first
	More     int              `json:"more,omitempty"` // findings that were left out
	Error    *events.Outcome  `json:"error,omitempty"`
}

// VerifySection sums up one section.
type VerifySection struct {
	Name       string `json:"name"`
	Checked    int    `json:"checked"` // decisions, rows, documents, hosts, files, machines
	Decision   uint64 `json:"decision"`
	Findings   int    `json:"findings"` // without those that are unanswered or settling
	Unanswered int    `json:"unanswered"`
	Settling   int    `json:"settling"`
	TookMS     int64  `json:"took_ms"`
}

// VerifyProgress is the answer on read.<actor>.cloud.progress.
type VerifyProgress struct {
	Running bool            `json:"running"`
	Section string          `json:"section,omitempty"`
	Doing   string          `json:"doing,omitempty"`
	Done    uint64          `json:"done,omitempty"`
	Of      uint64          `json:"of,omitempty"` // 0: not known
	Error   *events.Outcome `json:"error,omitempty"`
}
