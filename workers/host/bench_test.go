package host_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/workertest"
)

// BenchmarkPass is one look at a host on which all is as it should be, at three sizes.
func BenchmarkPass(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		e := newEngine(workertest.NewHost(1 << 20))
		for i := range n {
			d := wish(events.VMID(uuid.NewString()), desired.Running, 1)
			d.Name = "vm" + strconv.Itoa(i)
			e.wishes.Take(vmDoc(uint64(i+1), d))
		}
		if err := e.settle(context.Background()); err != nil {
			b.Fatal(err)
		}
		docs := e.wishes.All()
		b.Run(fmt.Sprintf("observe/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := e.w.Observe(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
		seen, err := e.w.Observe(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("documents/%d", n), func(b *testing.B) {
			for b.Loop() {
				e.wishes.All()
			}
		})
		b.Run(fmt.Sprintf("plan/%d", n), func(b *testing.B) {
			for b.Loop() {
				e.w.Plan(docs, seen)
			}
		})
		b.Run(fmt.Sprintf("describe/%d", n), func(b *testing.B) {
			for b.Loop() {
				e.w.Describe(docs, seen, nil)
			}
		})
	}
}
