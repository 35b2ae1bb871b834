package verifier_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"cloudengine/commands/api/verifier"
	"cloudengine/projections/projectionstest"
	"cloudengine/projections/verify"
)

// BenchmarkLog tells how fast a log is read, judged and folded into rows and documents, in decisions per second.
func BenchmarkLog(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	var l forged
	for _, r := range projectionstest.New(rng.IntN, 20).Steps(20_000).All() {
		l.decisions = append(l.decisions, r.Decision)
	}
	for b.Loop() {
		began := time.Now()
		a, err := verifier.New(verifier.Config{Log: &l}).Run(b.Context(), []string{verify.Log})
		if err != nil || a.Decision != uint64(len(l.decisions)) {
			b.Fatal(a.Decision, err)
		}
		b.ReportMetric(float64(a.Decision)/time.Since(began).Seconds(), "decisions/s")
	}
}
