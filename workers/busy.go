package workers

import (
	"sort"

	"cloudengine/events"
)

// Busy lists the objects whose steps are under way now, sorted.
func (l *Loop[O]) Busy() []events.Ref {
	busy := l.underWay()
	out := make([]events.Ref, 0, len(busy))
	for o := range busy {
		out = append(out, o)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].String() < out[j].String() })
	return out
}
