package proxy

import (
	"context"
	"fmt"
	"io"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// golden gives the volume of the document that another is copied from, or nil: its image is fetched.
func (p *planner) golden(v desired.Volume) *desired.Volume {
	for i, g := range p.v.wish.Volumes {
		if v.From != "" && g.Volume == v.From && g.Want == desired.There {
			return &p.v.wish.Volumes[i]
		}
	}
	return nil
}

// mayFill says whether the filling of a volume can go on now, and tells how far it is, or why it cannot. A golden volume has its record once it
// was filled and was what it should be: before that nothing is copied from it.
func (p *planner) mayFill(v desired.Volume, golden *desired.Volume) bool {
	if why := p.unfillable(v, golden); why != "" {
		p.note("volume %s is not filled: %s", v.Volume, why)
		p.failed = append(p.failed, events.FillFailure{Volume: v.Volume, Message: why})
		return false
	}
	f := p.seen.Fills[progressKey(p.v.id, v.Volume, "filled")]
	if f.Err != "" && v.Try <= f.Try { // of a try that is wanted still
		p.note("volume %s is not filled: %s", v.Volume, f.Err)
		p.failed = append(p.failed, events.FillFailure{Volume: v.Volume, Message: clip(f.Err)})
	}
	waits := f.Wait && v.Try <= f.Try || golden != nil && !equal(p.v.record.Volumes[golden.Volume], golden.Segments)
	p.progress(v, f, golden != nil, waits)
	return !waits
}

// progress tells how far the filling of a volume is.
func (p *planner) progress(v desired.Volume, f Fill, copied, waits bool) {
	x := events.FillProgress{Volume: v.Volume, What: events.FillFetch, Done: f.Done, Bytes: v.SourceBytes}
	each := int64(p.v.wish.ExtentMiB) << 20
	zeroed, all := int64(p.seen.Zeroed[progressKey(p.v.id, v.Volume, "new")])*each, int64(total(v.Segments))*each
	switch {
	case waits:
		x.What, x.Done = events.FillWait, 0
	case zeroed < all && f.Done == 0:
		x.What, x.Done, x.Bytes = events.FillZero, zeroed, all
	case copied:
		x.What = events.FillCopy
	}
	if f.Rate > 0 && (x.What == events.FillFetch || x.What == events.FillCopy) {
		x.Rate, x.ETA = f.Rate, int((x.Bytes-x.Done+f.Rate-1)/f.Rate)
	}
	p.fills = append(p.fills, x)
}

// unfillable says why a volume cannot be filled now, or nothing.
func (p *planner) unfillable(v desired.Volume, golden *desired.Volume) string {
	if golden == nil && !p.seen.Fetches {
		return "its image cannot be fetched here yet"
	}
	if golden != nil && (golden.Source != v.Source || golden.SourceBytes != v.SourceBytes) {
		return fmt.Sprintf("golden volume %s is to have another image", golden.Volume)
	}
	room := int64(0)
	for _, r := range p.runs(v) {
		room += r.Length
	}
	if v.SourceBytes <= 0 || v.SourceBytes > room {
		return fmt.Sprintf("its image of %d bytes does not fit its %d bytes", v.SourceBytes, room)
	}
	return ""
}

// paced reads no faster than a limit, which is that of what the array copies to its own legs: hosts have the array meanwhile.
type paced struct {
	ctx   context.Context
	from  io.Reader
	limit int64 // bytes per second; 0: none

	began time.Time
	done  int64
}

// Read waits until as much may have been read as was.
func (p *paced) Read(b []byte) (int, error) {
	if p.limit > 0 {
		if p.began.IsZero() {
			p.began = time.Now()
		}
		ahead := time.Duration(float64(p.done)/float64(p.limit)*float64(time.Second)) - time.Since(p.began)
		if ahead > 5*time.Millisecond { // not for each block: timers are coarse
			select {
			case <-time.After(ahead):
			case <-p.ctx.Done():
				return 0, p.ctx.Err()
			}
		}
	}
	n, err := p.from.Read(b)
	p.done += int64(n)
	return n, err
}
