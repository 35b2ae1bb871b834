package wire

import (
	"cloudengine/events"
	"cloudengine/events/audit"
)

// HeadSubject is where a signed head of the log is asked for. The body is {}.
func HeadSubject(actor string) string { return "read." + actor + ".log.head" }

// LeavesSubject is where the hashes of the log's decisions are asked for.
func LeavesSubject(actor string) string { return "read." + actor + ".log.leaves" }

// ProveSubject is where the proof of one decision is asked for.
func ProveSubject(actor string) string { return "read." + actor + ".log.prove" }

// ExportSubject is where the log is copied from, by administrators of the platform.
func ExportSubject(actor string) string { return "read." + actor + ".log.export" }

// AuditSubject is where the log is checked as it is stored, by administrators of the platform.
func AuditSubject(actor string) string { return "read." + actor + ".log.audit" }

// HeadAnswer is the reply: a head of the log as it is now.
type HeadAnswer struct {
	Note   string          `json:"note"` // signed
	Key    string          `json:"key"`  // public
	Size   uint64          `json:"size"` // decisions
	Seq    uint64          `json:"seq"`  // blocks
	Term   uint64          `json:"term"`
	Cloud  string          `json:"cloud"`
	Digest string          `json:"digest"` // of the last block
	Error  *events.Outcome `json:"error,omitempty"`
}

// MaxLeaves bounds one page of LeavesAnswer.
const MaxLeaves = 16384

// LeavesRequest asks for hashes of decisions after one.
type LeavesRequest struct {
	After uint64 `json:"after"`
	Limit int    `json:"limit,omitempty"` // 1…16384, 0 = 16384
}

// LeavesAnswer is the reply.
type LeavesAnswer struct {
	Hashes []byte          `json:"hashes"` // 32 bytes each; base64 in JSON
	Error  *events.Outcome `json:"error,omitempty"`
}

// ProveRequest asks for a proof that a decision is in the log.
type ProveRequest struct {
	Number uint64 `json:"number"`
	Size   uint64 `json:"size,omitempty"` // of the log that it is proven for; 0: of now, and the answer has the head
}

// ProveAnswer is the reply.
type ProveAnswer struct {
	Proof *audit.Proof    `json:"proof,omitempty"`
	Error *events.Outcome `json:"error,omitempty"`
}

// HeaderLast is a header of an export: the sequence of the log's last block.
const HeaderLast = "Ce-Last"

// ExportRequest asks for blocks after a sequence. The reply has the header HeaderLast and holds blocks, each as its length (32 bits, big
// endian) and its bytes as they are stored; none: the log ends there. Without the header it is an ExportError.
type ExportRequest struct {
	After uint64 `json:"after"`
}

// ExportError says why nothing is exported.
type ExportError struct {
	Error *events.Outcome `json:"error"`
}

// AuditRequest asks for a check of the whole log.
type AuditRequest struct {
	Invariants bool `json:"invariants,omitempty"` // those of the platform too, for which every decision is decoded
}

// AuditAnswer is the reply.
type AuditAnswer struct {
	audit.Report
	Error *events.Outcome `json:"error,omitempty"`
}
