package benchreplay

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"cloudengine/projections/projectionstest/biglog"
)

// BenchmarkOneSide runs one side alone, for a profile: CE_SIDE=replay, audit, rules or raw, CE_SIZE=100000, CE_LOGS=folder of
// logs, CE_ALONE=1 for one decision in each block.
func BenchmarkOneSide(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("CE_SIZE"))
	if err != nil {
		n = 20_000
	}
	dir := os.Getenv("CE_LOGS")
	if dir == "" {
		dir = b.TempDir()
	}
	start := opener(biglog.Open)
	if os.Getenv("CE_ALONE") != "" {
		start = openAlone
	}
	s, err := openSide(b.Context(), dir, n, start, b.Logf)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			b.Error(err)
		}
	}()
	for b.Loop() {
		switch os.Getenv("CE_SIDE") {
		case "replay":
			err = s.replay(b.Context())
		case "audit":
			err = s.audit(b.Context())
		case "rules":
			err = s.rules(b.Context())
		default:
			_, _, err = s.raw(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.decisions), "ns/decision")
}

func TestSidesAgree(t *testing.T) {
	dir := t.TempDir()
	for _, start := range []opener{biglog.Open, openAlone} {
		s, err := openSide(t.Context(), dir, 5000, start, t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.replay(t.Context()); err != nil {
			t.Error(err)
		}
		if err := errors.Join(s.audit(t.Context()), s.rules(t.Context())); err != nil {
			t.Error(err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}
