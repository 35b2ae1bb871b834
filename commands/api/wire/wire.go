// Package wire is the part of the bus contract that is about bytes which never enter the log: uploads of template files, values of
// secrets, and consoles. Intents, questions and reports are in package events.
//
// It holds types and names alone.
package wire

import (
	"time"

	"cloudengine/events"
)

// Limits.
const (
	Chunk      = 128 << 10 // bytes of a blob that a client sends in one message; at most events.MaxRequest are taken
	MaxBlob    = events.MaxBlob
	MaxSecret  = 64 << 10 // bytes of a secret's value
	MaxConsole = 64 << 10 // bytes of a console in one answer
)

// Headers of messages on put.<actor>.blob.
const (
	HeaderSHA256 = "Ce-Sha256" // of the whole blob, lower-case hex
	HeaderTotal  = "Ce-Total"  // bytes of the whole blob
	HeaderOffset = "Ce-Offset" // of this message's first byte
)

// BlobSubject is where the chunks of a blob are sent.
func BlobSubject(actor string) string { return "put." + actor + ".blob" }

// SecretSubject is where the value of a secret is sent.
func SecretSubject(actor string) string { return "put." + actor + ".secret" }

// ConsoleSubject is where a console is asked for.
func ConsoleSubject(actor string) string { return "console." + actor + ".vm" }

// BlobAnswer is the reply to a message on put.<actor>.blob.
type BlobAnswer struct {
	SHA256 string          `json:"sha256"`
	Offset int64           `json:"offset"` // bytes that are stored: the next chunk starts here
	Done   bool            `json:"done"`   // complete, and its digest is right
	Error  *events.Outcome `json:"error,omitempty"`
}

// SecretRequest is the body of put.<actor>.secret. The reply is an events.Answer.
type SecretRequest struct {
	ID     events.IntentID `json:"id"` // of the intent secret.set that follows from it
	Name   string          `json:"name"`
	Value  []byte          `json:"value"` // base64 in JSON; 1 byte to MaxSecret
	Reason string          `json:"reason,omitempty"`
}

// ConsoleRequest is the body of console.<actor>.vm.
type ConsoleRequest struct {
	VM    events.VMID `json:"vm"`
	Bytes int         `json:"bytes,omitempty"` // 1 to MaxConsole, from the end; 0 = 16384

	LastRun bool `json:"last_run,omitempty"` // of the last run grant that ended, as kept by the server, and not of its domain now
}

// ConsoleAnswer is the reply: the last bytes that the guest printed, as its host has them.
type ConsoleAnswer struct {
	VM    events.VMID      `json:"vm"`
	Host  events.MachineID `json:"host,omitempty"`
	Data  []byte           `json:"data,omitempty"`  // base64 in JSON
	Ended *time.Time       `json:"ended,omitempty"` // last run: when
	Error *events.Outcome  `json:"error,omitempty"`
}
