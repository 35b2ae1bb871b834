package benchlog

import (
	"context"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"cloudengine/events"
)

// BenchmarkOneSide runs one side alone, for a profile: CE_SIDE=ours, raw or fenced, CE_CLIENTS=64.
func BenchmarkOneSide(b *testing.B) {
	both, err := startSides(b.Context(), b.TempDir(), 1)
	if err != nil {
		b.Fatal(err)
	}
	defer both.stop()
	e := both.ours
	switch os.Getenv("CE_SIDE") {
	case "raw":
		e = both.raw
	case "fenced":
		e = both.fenced
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
		if rate, err = c.rate(b.Context(), runTime); err != nil {
			b.Fatal(err)
		}
	}
	if blocks, ok := both.blocks(b.Context(), e); ok {
		b.ReportMetric(float64(asked())/float64(blocks), "decisions/block")
	}
	b.ReportMetric(rate, "decisions/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(asked()-before), "cpu-µs/decision")
}

// blocks counts what a side has stored.
func (s *sides) blocks(ctx context.Context, e endpoint) (uint64, bool) {
	js, name := s.rawJS, "RAW"
	switch e.url {
	case s.ours.url:
		js, name = s.oursJS, events.StreamEvents
	case s.fenced.url:
		return 0, false
	}
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return 0, false
	}
	return stream.CachedInfo().State.LastSeq, true
}

// cpuTime is what this process has used of the CPUs.
func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
