package main

import (
	"fmt"
	"strconv"
	"strings"
)

// rateUnits are the units that rates are written in, the largest first, with the bytes per second of each.
type rateUnits []struct {
	unit  string
	bytes uint64
}

// parse reads a whole number of one of the units, in bytes per second. example is what an error offers. The decider says what rates may be.
func (all rateUnits) parse(s, example string) (uint64, error) {
	for _, u := range all {
		digits, ok := strings.CutSuffix(s, u.unit)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 32); err == nil {
			return n * u.bytes, nil
		}
	}
	return 0, fmt.Errorf("%q: want a rate like %s", s, example)
}

// format says bytes per second in the largest unit of which they are a whole number, or else as rest does.
func (all rateUnits) format(n uint64, rest func(uint64) string) string {
	for _, u := range all {
		if n%u.bytes == 0 {
			return strconv.FormatUint(n/u.bytes, 10) + u.unit
		}
	}
	return rest(n)
}
