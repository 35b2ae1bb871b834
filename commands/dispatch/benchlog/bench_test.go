package benchlog_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"cloudengine/commands/dispatch/benchlog"
)

// BenchmarkWritePath prints the lines named in CE_BENCH (all if empty), for work on the write path:
// CE_BENCH=P1-64 go test -bench . -benchtime 1x -cpuprofile cpu.out ./commands/dispatch/benchlog
func BenchmarkWritePath(b *testing.B) {
	for range b.N {
		results, err := benchlog.Run(b.Context(), strings.Fields(os.Getenv("CE_BENCH")))
		for _, r := range results {
			line, _ := json.Marshal(r) // our own type
			b.Log(string(line))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func TestKnownLines(t *testing.T) {
	if got := strings.Join(benchlog.IDs(), " "); got != "P1-1 P1-64 P1-1000 P1-R3-64 P2-p50 P2-p99" {
		t.Fatal(got)
	}
}
