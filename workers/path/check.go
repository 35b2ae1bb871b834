package path

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Messages to a map about a path (multipath_message in drivers/md/dm-mpath.c).
const (
	failPath      = "fail_path"
	reinstatePath = "reinstate_path"
)

// verdict says what the kernel must be told of a path, if anything. A path is valid while its unit serves I/O: not on standby, and not
// without an answer either, so that what comes goes another way.
func verdict(valid bool, probe error) string {
	switch {
	case valid && probe != nil:
		return failPath
	case !valid && probe == nil:
		return reinstatePath
	}
	return ""
}

// Listener hears of what happens to device-mapper's devices. dm.Events is the real one.
type Listener interface {
	// Arm forgets what has happened until now.
	Arm() error
	// Wait ends when something happens, or has happened since Arm, after most, or when ctx ends, which is the error then.
	Wait(ctx context.Context, most time.Duration) (bool, error)
}

// Run checks all paths until ctx ends. The kernel itself fails a path whose I/O fails, and that is heard of at once; that one works again is only
// ever found by asking: soon, while a map has none that works. So nothing is asked often while each map has one.
func (w *Worker) Run(ctx context.Context) error {
	ear := w.listen()
	for events := 0; ctx.Err() == nil; {
		heard := ear != nil
		if heard {
			if err := ear.Arm(); err != nil {
				w.log().Warn("listen to device-mapper", "err", err)
				heard = false
			}
		}
		wait := w.pause(w.check(ctx), heard)
		if !heard {
			sleep(ctx, wait)
			continue
		}
		told, err := ear.Wait(ctx, wait)
		switch {
		case err != nil && ctx.Err() == nil:
			w.log().Warn("wait for device-mapper", "err", err)
			sleep(ctx, wait)
		case !told:
			events = 0
		case events < eventBurst:
			events++
			sleep(ctx, eventPause)
		default: // it goes on and on: a path that answers and fails what it is given
			sleep(ctx, or(w.Hurry, defaultHurry))
		}
	}
	return ctx.Err()
}

// Events may follow each other at eventPause, so many of them; then they are followed at the pace of Hurry.
const (
	eventPause = 50 * time.Millisecond
	eventBurst = 10
)

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// listen begins to listen, if it can.
func (w *Worker) listen() Listener {
	if w.Listen == nil {
		return nil
	}
	ear, err := w.Listen()
	if err != nil {
		w.log().Warn("paths are asked often: nothing tells of them", "err", err)
		return nil
	}
	return ear
}

// pause says how long after a check the next one may wait.
func (w *Worker) pause(c checked, heard bool) time.Duration {
	switch {
	case c.failed || c.stuck:
		return or(w.Hurry, defaultHurry)
	case heard && !c.changed:
		return or(w.Calm, defaultCalm)
	}
	return or(w.Interval, defaultInterval)
}

// checked is what a check has come to.
type checked struct {
	failed  bool // it could not look
	changed bool // it has told the kernel of a path
	stuck   bool // a map has no path that works
}

// check asks every path of every map once, all at the same time, and tells the kernel.
func (w *Worker) check(ctx context.Context) (c checked) {
	luns, err := w.Initiator.LUNs(ctx)
	maps, err2 := w.Mapper.Maps()
	if err := errors.Join(err, err2); err != nil {
		if ctx.Err() == nil {
			w.log().Error("check paths", "err", err)
		}
		return checked{failed: true}
	}
	var group sync.WaitGroup
	var changed atomic.Bool
	works := make([]atomic.Bool, len(maps))
	for i, d := range maps {
		for _, p := range d.Paths {
			group.Go(func() {
				valid, told := w.checkPath(ctx, d.Name, p, luns)
				if told {
					changed.Store(true)
				}
				if valid {
					works[i].Store(true)
				}
			})
		}
	}
	group.Wait()
	for i := range works {
		c.stuck = c.stuck || !works[i].Load()
	}
	if c.changed = changed.Load(); c.changed && w.Changed != nil {
		w.Changed()
	}
	return c
}

// checkPath asks one path, and tells the kernel what it does not know already. It says whether the path is valid now, and whether it told.
func (w *Worker) checkPath(ctx context.Context, name string, p Path, luns []LUN) (valid, told bool) {
	probe := w.probe(ctx, p.DevNo, luns)
	if ctx.Err() != nil || verdict(p.Valid, probe) == "" { // a cut-off question is not the path's fault
		return p.Valid, false
	}
	now, err := w.Mapper.Paths(name) // the answer may have taken its time
	if err != nil {
		w.log().Warn("read paths", "map", name, "err", err)
		return false, false
	}
	i := slices.IndexFunc(now, func(x Path) bool { return x.DevNo == p.DevNo })
	if i < 0 {
		return false, false
	}
	say := verdict(now[i].Valid, probe)
	if say == "" {
		return now[i].Valid, false
	}
	if err := w.Mapper.Tell(name, say+" "+p.DevNo); err != nil {
		w.log().Warn("tell of a path", "map", name, "path", p.DevNo, "err", err)
		return now[i].Valid, false
	}
	w.log().Info("path", "map", name, "path", p.DevNo, "told", say, "probe", probe)
	return say == reinstatePath, true
}

var errNoDisk = errors.New("its disk is gone")

func (w *Worker) probe(ctx context.Context, devNo string, luns []LUN) error {
	i := slices.IndexFunc(luns, func(l LUN) bool { return l.DevNo == devNo })
	if i < 0 {
		return errNoDisk
	}
	ctx, cancel := context.WithTimeout(ctx, or(w.Answer, 3*time.Second))
	defer cancel()
	return w.Initiator.Probe(ctx, luns[i].Dev)
}
