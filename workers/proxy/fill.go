package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/dm"
)

// fillStep bounds what one step fills, in bytes of the image, for the reason of zeroStep. So an image of any size is within the time limit of
// steps, and other work on the array goes on in between. What is read of the image stays open from step to step.
var fillStep int64 = 32 << 20 // tests take less at once

// fillPause is how long a volume whose filling failed waits; each further time twice as long, up to fillPauseMost. Meanwhile the other volumes of
// the array are served.
const (
	fillPause     = time.Minute
	fillPauseMost = 32 * time.Minute
)

// Fill is how far the filling of a volume is.
type Fill struct {
	Done  int64  // bytes of its image that are on the volume
	Whole bool   // all are, and the image was what it should be
	Err   string // why it failed the last time
	Wait  bool   // it failed just now, and is not tried again yet
}

// filling is a volume that is being filled, or was.
type filling struct {
	from   *image // nil: it has not begun, is whole, or has failed
	wrote  bool   // something of it may be on the volume
	done   int64
	whole  bool
	err    error // of the last time
	failed time.Time
	over   bool          // since failed
	pause  time.Duration // after the next failure
}

// fill plans the filling of a volume from its image. It was zeroed before.
func (p *planner) fill(v desired.Volume) {
	key := progressKey(p.v.id, v.Volume, "filled")
	f := p.seen.Fills[key]
	for at := f.Done; at < v.SourceBytes && !f.Whole; at += fillStep {
		n := min(fillStep, v.SourceBytes-at)
		body, err := json.Marshal(part(p.runs(v), at, n))
		if err != nil {
			p.note("encode runs: %v", err)
			return
		}
		p.do(stepFill, "volume "+string(v.Volume)+" is made from a template", "volume", string(v.Volume), "key", key,
			"zeroed", progressKey(p.v.id, v.Volume, "new"), "runs", string(body), "sha256", v.Source.SHA256, "size", strconv.FormatInt(v.Source.Size, 10),
			"at", strconv.FormatInt(at, 10), "length", strconv.FormatInt(n, 10), "bytes", strconv.FormatInt(v.SourceBytes, 10))
	}
}

// unfillable says why a volume cannot be filled now, or nothing.
func (p *planner) unfillable(v desired.Volume) string {
	if !p.seen.Fetches {
		return "its image cannot be fetched here yet"
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

// runs gives the bytes of a volume on the front, in order.
func (p *planner) runs(v desired.Volume) []Run {
	var out []Run
	for _, s := range v.Segments {
		out = append(out, p.run(s))
	}
	return out
}

// part gives length bytes of runs, from the byte at on.
func part(runs []Run, at, length int64) []Run {
	var out []Run
	for _, r := range runs {
		skip := min(at, r.Length)
		at -= skip
		if n := min(length, r.Length-skip); n > 0 {
			out = append(out, Run{Offset: r.Offset + skip, Length: n})
			length -= n
		}
	}
	return out
}

// fill does one step of a filling. The last one also finds out whether the image was what it should be: the volume's record is written only
// after that. If anything is wrong, nothing of what was written can be trusted: the volume is zeroed and filled from the beginning again.
func (w *Worker) fill(ctx context.Context, s workers.Step) error {
	n, err := numbers(s, "size", "at", "length", "bytes")
	if err != nil {
		return err
	}
	var runs []Run
	if err := json.Unmarshal([]byte(s.Params["runs"]), &runs); err != nil {
		return workers.Permanent(fmt.Errorf("read runs: %w", err))
	}
	if w.Fetch == nil {
		return workers.Permanent(errors.New("fetch a blob: there is no way to"))
	}
	key, at, length := s.Params["key"], n[1], n[2]
	f, err := w.fillingAt(key, at)
	if err != nil {
		return err
	}
	if err := w.fillPart(ctx, f, s, events.Blob{SHA256: s.Params["sha256"], Size: n[0]}, runs, length, at+length == n[3]); err != nil {
		w.unfill(f, s.Params["zeroed"], err)
		return fmt.Errorf("fill volume %s at %d of %d bytes: %w", s.Params["volume"], at, n[3], err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.done, f.whole = at+length, at+length == n[3]
	return nil
}

// fillingAt gives the filling that has come to a byte; a new one at the beginning.
func (w *Worker) fillingAt(key string, at int64) (*filling, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fills[key]
	switch {
	case at == 0 && f == nil:
		f = &filling{pause: fillPause}
		w.fills[key] = f
	case at == 0 && f.over:
		f = &filling{pause: min(2*f.pause, fillPauseMost), err: f.err}
		w.fills[key] = f
	}
	if f == nil || f.over || f.done != at {
		return nil, fmt.Errorf("fill from byte %d on: %w", at, errChanged)
	}
	return f, nil
}

func (w *Worker) fillPart(ctx context.Context, f *filling, s workers.Step, b events.Blob, runs []Run, length int64, last bool) error {
	if f.from == nil {
		from, err := openImage(ctx, w.Fetch, b)
		if err != nil {
			return err
		}
		w.mu.Lock()
		f.from = from
		w.mu.Unlock()
	}
	f.wrote = true
	defer context.AfterFunc(ctx, f.from.cancel)() // a step that is too late ends, and what it reads with it
	if err := w.Blocks.Fill(ctx, dm.Path(FrontName(events.ArrayID(s.Target))), runs, f.from, length); err != nil {
		return err
	}
	if !last {
		return nil
	}
	err := f.from.end(b)
	w.mu.Lock()
	from := f.from
	f.from = nil
	w.mu.Unlock()
	from.close()
	return err
}

// unfill ends a filling that has failed. A volume that something was written to is not zeroed any more.
func (w *Worker) unfill(f *filling, zeroed string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.wrote {
		delete(w.zeroed, zeroed)
	}
	if f.from != nil {
		f.from.close()
		f.from = nil
	}
	f.err, f.failed, f.over, f.done = err, w.Now(), true, 0
}

// fillsNow tells how far fillings are. The caller holds mu.
func (w *Worker) fillsNow() map[string]Fill {
	out := map[string]Fill{}
	for key, f := range w.fills {
		x := Fill{Done: f.done, Whole: f.whole, Wait: f.over && w.Now().Sub(f.failed) < f.pause}
		if f.err != nil && !f.whole {
			x.Err = f.err.Error()
		}
		out[key] = x
	}
	return out
}

// dropFills ends fillings that nobody wants any more: of volumes that no document of this machine's wants filled.
func (w *Worker) dropFills(wishes []Wish) {
	wanted := map[string]bool{}
	for _, x := range wishes {
		for _, v := range x.Volumes {
			if x.active() && v.Want == desired.There && v.Keep == 0 {
				wanted[progressKey(x.Array.Array, v.Volume, "filled")] = true
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.fills {
		if !wanted[key] {
			w.dropFill(key)
		}
	}
}

// dropFill ends a filling. One that is under way fails. The caller holds mu.
func (w *Worker) dropFill(key string) {
	if f := w.fills[key]; f != nil && f.from != nil {
		f.from.cancel()
	}
	delete(w.fills, key)
}
