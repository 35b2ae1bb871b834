package main

import (
	"testing"
	"time"
)

func TestSelected(t *testing.T) {
	for _, c := range []struct {
		wanted []string
		id     string
		want   bool
	}{
		{nil, "P4-lag", true},
		{[]string{"P1"}, "P1-64", true},
		{[]string{"P1"}, "P10-size", false},
		{[]string{"P6-call-16"}, "P6-call", false},
		{[]string{"P2", "P6-cpu"}, "P6-cpu-run", true},
	} {
		if got := selected(c.wanted, c.id); got != c.want {
			t.Errorf("%v selects %s: %v", c.wanted, c.id, got)
		}
	}
	if known([]string{"P1", "P10-boot"}) != nil || known([]string{"P1", "P7"}) == nil {
		t.Error("what is known is refused, or what is not is taken")
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(200-i))
	}
	if p50, p99, p100 := percentile(d, 50), percentile(d, 99), percentile(d, 100); p50 != 100 || p99 != 198 || p100 != 200 {
		t.Errorf("p50 %d, p99 %d, p100 %d", p50, p99, p100)
	}
	if one := median([]float64{3}); one != 3 {
		t.Errorf("median of one is %v", one)
	}
}
