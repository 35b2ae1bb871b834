package wire

import "cloudengine/events"

// MachineConsoleSubject is where the serial console of a machine is opened, read and typed on.
func MachineConsoleSubject(actor string) string { return "console." + actor + ".machine" }

// MaxTyped is the largest input of one request, in bytes.
const MaxTyped = 4096

// MachineConsoleRequest is the body of console.<actor>.machine. Without a session it opens the machine's console; with one it types Input
// if there is any, closes it, or else reads: the answer waits a little until there is something.
type MachineConsoleRequest struct {
	Machine events.MachineID `json:"machine,omitempty"` // to open: id, unique beginning of one, or name
	Write   bool             `json:"write,omitempty"`   // to open: also type; role admin
	Session string           `json:"session,omitempty"`
	Input   []byte           `json:"input,omitempty"` // at most MaxTyped bytes
	After   uint64           `json:"after,omitempty"` // to read: the next of the answer before
	Close   bool             `json:"close,omitempty"`
}

// MachineConsoleAnswer is the reply.
type MachineConsoleAnswer struct {
	Session string          `json:"session,omitempty"`
	Data    []byte          `json:"data,omitempty"` // hostile: what the machine prints
	Next    uint64          `json:"next,omitempty"` // offset behind data; what was printed and read by nobody for long is left out
	Over    bool            `json:"over,omitempty"` // nothing will follow
	Error   *events.Outcome `json:"error,omitempty"`
}
