package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/dm"
)

// fillStep bounds what one step fills, in bytes of the image, for the reason of zeroStep. So an image of any size is within the time limit of
// steps, and other work on the array goes on in between. What is read of the image stays open from step to step.
var fillStep int64 = 32 << 20 // tests make it smaller

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
	Try   int    // the document's, as of that time
	Rate  int64  // bytes per second since it began; 0: not known
}

// filling is a volume that is being filled, or was.
type filling struct {
	from   *image    // nil: it has not begun, is whole, has failed, or is a copy
	sum    hash.Hash // of what was written
	began  time.Time
	wrote  bool // something of it may be on the volume
	done   int64
	whole  bool
	err    error // of the last time
	failed time.Time
	over   bool          // since failed
	pause  time.Duration // after the next failure
	try    int
	copied bool // from a golden volume
}

// fill plans the filling of a volume from its image, or from the golden volume that has it, and says whether that is all of it. It was zeroed before.
func (p *planner) fill(v desired.Volume, golden *desired.Volume) (all bool) {
	key := progressKey(p.v.id, v.Volume, "filled")
	f := p.seen.Fills[key]
	for at := f.Done; at < v.SourceBytes && !f.Whole; at += fillStep {
		if !p.mayMove() {
			return false
		}
		n := min(fillStep, v.SourceBytes-at)
		runs, why, from := part(p.runs(v), at, n), "is made from a template", []Run(nil)
		if golden != nil {
			from, why = part(p.runs(*golden), at, n), "is copied from golden volume "+string(golden.Volume)
		}
		body, err := json.Marshal([][]Run{runs, from})
		if err != nil {
			p.note("encode runs: %v", err)
			return false
		}
		p.do(stepFill, "volume "+string(v.Volume)+" "+why, "volume", string(v.Volume), "key", key,
			"zeroed", progressKey(p.v.id, v.Volume, "new"), "runs", string(body), "sha256", v.Source.SHA256, "size", strconv.FormatInt(v.Source.Size, 10),
			"at", strconv.FormatInt(at, 10), "length", strconv.FormatInt(n, 10), "bytes", strconv.FormatInt(v.SourceBytes, 10),
			"content", v.SourceContent, "try", strconv.Itoa(v.Try), "kib", strconv.Itoa(p.v.wish.Resync.LimitKiB))
	}
	return true
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
	n, err := numbers(s, "size", "at", "length", "bytes", "try", "kib")
	if err != nil {
		return err
	}
	var runs [2][]Run // to and from
	if err := json.Unmarshal([]byte(s.Params["runs"]), &runs); err != nil {
		return workers.Permanent(fmt.Errorf("read runs: %w", err))
	}
	t := fillPart{front: dm.Path(FrontName(events.ArrayID(s.Target))), to: runs[0], from: runs[1], source: events.Blob{SHA256: s.Params["sha256"], Size: n[0]},
		content: s.Params["content"], length: n[2], last: n[1]+n[2] == n[3], limit: n[5] << 10}
	if w.Fetch == nil && t.from == nil {
		return workers.Permanent(errors.New("fetch a blob: there is no way to"))
	}
	f, err := w.fillingAt(s.Params["key"], n[1], int(n[4]))
	if err != nil {
		return err
	}
	if err := w.fillPart(ctx, f, t); err != nil {
		w.unfill(f, s.Params["zeroed"], err)
		return fmt.Errorf("fill volume %s at %d of %d bytes: %w", s.Params["volume"], n[1], n[3], err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.done, f.whole = n[1]+t.length, t.last
	return nil
}

// fillPart is what one step fills.
type fillPart struct {
	front   string
	to      []Run
	from    []Run       // of the golden volume; nil: source is fetched
	source  events.Blob // packed
	content string      // digest of the image when it is unpacked; empty: not known
	length  int64       // bytes
	last    bool
	limit   int64 // bytes per second; 0: none
}

// fillingAt gives the filling that has come to a byte; a new one at the beginning.
func (w *Worker) fillingAt(key string, at int64, try int) (*filling, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fills[key]
	switch {
	case at == 0 && f == nil:
		f = &filling{pause: fillPause}
	case at == 0 && f.over && f.try < try:
		f = &filling{pause: fillPause} // what was wrong with the tries before is told already
	case at == 0 && f.over:
		f = &filling{pause: min(2*f.pause, fillPauseMost), err: f.err}
	}
	if f == nil || f.over || f.done != at {
		return nil, fmt.Errorf("fill from byte %d on: %w", at, errChanged)
	}
	if w.fills[key] != f {
		f.sum, f.began, f.try = sha256.New(), w.Now(), try
		w.fills[key] = f
	}
	return f, nil
}

// fillPart fills a part, and looks at the whole after the last one.
func (w *Worker) fillPart(ctx context.Context, f *filling, t fillPart) error {
	if f.done == 0 {
		f.copied = t.from != nil
	}
	if f.copied != (t.from != nil) { // what the golden volume has and what is fetched are not to be mixed
		return errChanged
	}
	var from io.Reader
	if f.copied {
		golden, err := w.Blocks.Open(t.front, t.from)
		if err != nil {
			return err
		}
		defer golden.Close()
		from = golden
	} else {
		if err := w.openFilling(ctx, f, t.source); err != nil {
			return err
		}
		defer context.AfterFunc(ctx, f.from.cancel)() // a step that is too late ends, and what it reads with it
		from = f.from
	}
	f.wrote = true
	if err := w.Blocks.Fill(ctx, t.front, t.to, &paced{ctx: ctx, from: io.TeeReader(from, f.sum), limit: t.limit}, t.length); err != nil {
		return err
	}
	if !t.last {
		return nil
	}
	if got := hex.EncodeToString(f.sum.Sum(nil)); t.content != "" && got != t.content {
		return fmt.Errorf("look at the unpacked image: %w: its digest is %s", errSum, got)
	}
	if f.from == nil {
		return nil
	}
	err := f.from.end(t.source)
	w.mu.Lock()
	opened := f.from
	f.from = nil
	w.mu.Unlock()
	opened.close()
	return err
}

// openFilling begins to fetch the image of a filling, unless that is under way.
func (w *Worker) openFilling(ctx context.Context, f *filling, b events.Blob) error {
	if f.from != nil {
		return nil
	}
	from, err := openImage(ctx, w.Fetch, b)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.from = from
	return nil
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
		x := Fill{Done: f.done, Whole: f.whole, Wait: f.over && w.Now().Sub(f.failed) < f.pause, Try: f.try}
		if took := w.Now().Sub(f.began).Milliseconds(); !f.over && took > 0 {
			x.Rate = f.done * 1000 / took
		}
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
	if f := w.fills[key]; f != nil && f.wrote { // as in unfill: what is left of it would show where the image has zeroes
		delete(w.zeroed, strings.TrimSuffix(key, "/filled")+"/new")
	}
	delete(w.fills, key)
}
