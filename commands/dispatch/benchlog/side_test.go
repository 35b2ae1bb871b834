package benchlog

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// BenchmarkOneSide runs one side alone, for a profile: CE_SIDE=ours or raw, CE_CLIENTS=64.
func BenchmarkOneSide(b *testing.B) {
	both, err := startSides(b.Context(), b.TempDir(), 1)
	if err != nil {
		b.Fatal(err)
	}
	defer both.stop()
	e := both.ours
	if os.Getenv("CE_SIDE") == "raw" {
		e = both.raw
	}
	n, _ := strconv.Atoi(os.Getenv("CE_CLIENTS"))
	c, err := e.clients(max(n, 1))
	if err != nil {
		b.Fatal(err)
	}
	defer c.close()
	asked := func() (n int) {
		for _, in := range c.intents {
			n += in.n
		}
		return n
	}
	before, cpu := asked(), cpuTime(b)
	rate := 0.0
	for b.Loop() {
		if rate, err = c.rate(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rate, "decisions/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(asked()-before), "cpu-µs/decision")
}

// cpuTime is what this process has used of the CPUs.
func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
