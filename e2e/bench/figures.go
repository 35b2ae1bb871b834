package main

import (
	"math"
	"slices"
	"time"
)

// percentile gives the smallest value that p of 100 values do not exceed (nearest rank). It sorts values. NaN if there are none.
func percentile[T float64 | time.Duration](values []T, p float64) T {
	if len(values) == 0 {
		return T(math.NaN())
	}
	slices.Sort(values)
	return values[max(0, int(math.Ceil(p/100*float64(len(values))))-1)]
}

func median[T float64 | time.Duration](values []T) T { return percentile(values, 50) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
