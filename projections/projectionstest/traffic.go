package projectionstest

import "cloudengine/events"

// Traffic lets n things happen to VMs of a cloud that has about so many of them and whose machines are well: most of what is in the log
// of a large cloud.
func (w *World) Traffic(n, vms int) *World {
	for range n {
		if len(w.vms) < vms && (len(w.vms) == 0 || w.choose(4) == 0) {
			w.CreateVM()
			continue
		}
		v := w.vms[w.choose(len(w.vms))]
		switch w.choose(12) {
		case 0, 1, 2:
			w.start(v)
		case 3, 4, 5, 6:
			w.observe(v)
		case 7:
			w.stop(v)
		case 8:
			w.ended(v)
		case 9:
			w.reboot(v)
		case 10:
			w.refused(v)
		case 11:
			if w.choose(8) == 0 {
				w.delete(v)
			}
		}
	}
	return w
}

// Ordered lets ids rise from here on, as those do that clients make (UUIDv7); else they are in no order.
func (w *World) Ordered() *World {
	w.ordered = true
	return w
}

// Take gives the decisions since the last time, and keeps none of them.
func (w *World) Take() []events.Recorded {
	out := w.all
	w.taken, w.all = w.taken+uint64(len(out)), nil
	return out
}
