package api

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

// maxMachineWords bounds what a machine says in words, in bytes.
const maxMachineWords = 1000

// readConsole reads a machine's answer about a console. A machine can lie about what the guest printed, and about nothing else.
func readConsole(data []byte, host events.MachineID, r wire.ConsoleRequest) wire.ConsoleAnswer {
	var a wire.ConsoleAnswer
	if err := json.Unmarshal(data, &a); err != nil {
		return consoleError(r.VM, refusal(events.CodeConflict, "host %s gave an answer that cannot be read", host))
	}
	a.VM, a.Host = r.VM, host
	if len(a.Data) > r.Bytes {
		a.Data = a.Data[len(a.Data)-r.Bytes:]
	}
	if a.Error != nil {
		o := refusal(events.CodeConflict, "host %s: %s", host, words(a.Error.Message))
		a.Error = &o
	}
	return a
}

// words gives what a machine says as one line of bounded length, without what a terminal would obey.
func words(s string) string {
	if len(s) > maxMachineWords {
		s = s[:maxMachineWords]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
