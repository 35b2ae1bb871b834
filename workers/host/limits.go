package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"cloudengine/events"
	"cloudengine/workers"
)

// stepLimit gives a disk of a domain its limits; its target is a volume.
const stepLimit = "limit"

// Throttle bounds what is done with block devices. Package throttle has it.
type Throttle interface {
	// Limits gives the limits in force, by the number of the device (253:4). A device that is not among them has none.
	Limits(ctx context.Context) (map[string]events.DiskLimits, error)
	// Set gives a device these limits, and no others; zero takes all away. It can be done again.
	Set(ctx context.Context, device string, l events.DiskLimits) error
}

var errNoThrottle = errors.New("this agent cannot limit disks")

// limits gives the limits in force by volume. Devices that are not of volumes are not looked at.
func (w *Worker) limits(ctx context.Context) (map[events.VolumeID]events.DiskLimits, error) {
	if w.Throttle == nil || w.Disks == nil {
		return nil, nil
	}
	byNumber, err := w.Throttle.Limits(ctx)
	if err != nil || len(byNumber) == 0 {
		return nil, err
	}
	numbers, err := w.Disks.Numbers(ctx)
	if err != nil {
		return nil, err
	}
	out := map[events.VolumeID]events.DiskLimits{}
	for v, n := range numbers {
		if l, limited := byNumber[n]; limited {
			out[v] = l
		}
	}
	return out, nil
}

// limitDisks plans to give the disks of a domain that is there the limits that they have not.
func (p *planner) limitDisks() {
	for _, d := range p.w.Disks {
		if have := p.seen.Limits[d.Volume]; have != d.Limits {
			p.limit(d.Volume, d.Limits, "it has "+limitWords(have))
		}
	}
}

// limitNew plans to give the disks of a domain that is about to be made, or made again, their limits before it runs. What a look saw before does
// not count: the end of the domain before takes the limits away.
func (p *planner) limitNew() {
	for _, d := range p.w.Disks {
		if d.Limits != (events.DiskLimits{}) || p.seen.Limits[d.Volume] != d.Limits {
			p.limit(d.Volume, d.Limits, "before it runs")
		}
	}
}

func (p *planner) limit(v events.VolumeID, l events.DiskLimits, why string) {
	text, _ := json.Marshal(l) // numbers only
	p.do(workers.Step{Kind: stepLimit, Target: string(v), Params: map[string]string{"limits": string(text)}, Why: why})
}

// limitWords says limits as a step's reason has them.
func limitWords(l events.DiskLimits) string {
	out := ""
	for _, f := range []struct {
		name string
		n    int64
	}{{"read_bps", l.ReadBPS}, {"write_bps", l.WriteBPS}, {"read_iops", l.ReadIOPS}, {"write_iops", l.WriteIOPS}} {
		if f.n != 0 {
			out += f.name + " " + strconv.FormatInt(f.n, 10) + ", "
		}
	}
	if out == "" {
		return "no limits"
	}
	return out[:len(out)-2]
}

// setLimits does a step.
func (w *Worker) setLimits(ctx context.Context, s workers.Step) error {
	var want events.DiskLimits
	if err := json.Unmarshal([]byte(s.Params["limits"]), &want); err != nil {
		return workers.Permanent(fmt.Errorf("read limits: %w", err))
	}
	if w.Throttle == nil || w.Disks == nil {
		return errNoThrottle
	}
	number, _, err := w.Disks.Device(ctx, events.VolumeID(s.Target))
	if err != nil {
		return err
	}
	return w.Throttle.Set(ctx, number, want)
}

// liftLimits takes the limits of a domain's disks away before it is destroyed: what its guest has asked for must be done before its disks are
// let go, and would take its time in the throttle. It is tried only: a domain can be destroyed without it.
func (w *Worker) liftLimits(ctx context.Context, domid int) {
	if w.Throttle == nil {
		return
	}
	limited, err := w.Throttle.Limits(ctx)
	if err != nil || len(limited) == 0 {
		return
	}
	devices, err := w.backends(ctx, domid)
	if err != nil {
		return
	}
	for _, number := range devices {
		if _, is := limited[number]; is {
			_ = w.Throttle.Set(ctx, number, events.DiskLimits{})
		}
	}
}
