package api

import (
	"testing"
	"unicode"
	"unicode/utf8"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

// FuzzConsoleAnswer lets a machine answer anything about a console.
func FuzzConsoleAnswer(f *testing.F) {
	for _, s := range []string{``, `{}`, `[]`, `{"vm":"other","host":"other","data":"aGVsbG8gd29ybGQ="}`, `{"error":{"status":"accepted","code":"x","message":"\u001b[2J evil"}}`, `{"data":null,"error":{}}`} {
		f.Add([]byte(s), 16)
	}
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		r := wire.ConsoleRequest{VM: "vm", Bytes: 1 + abs(limit)%wire.MaxConsole}
		a := readConsole(data, "host", r)
		if a.VM != r.VM || len(a.Data) > r.Bytes || a.Error == nil && a.Host != "host" {
			t.Fatalf("answer %+v", a)
		}
		if a.Error == nil {
			return
		}
		if m := a.Error.Message; a.Error.Status != events.Refused || len(m) > maxMachineWords+100 || !utf8.ValidString(m) || hasControl(m) {
			t.Fatalf("error %+v", a.Error)
		}
	})
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

func hasControl(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}
