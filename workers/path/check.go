package path

import (
	"context"
	"errors"
	"slices"
	"sync"
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

// Run checks all paths again and again, until ctx ends. The kernel itself fails a path whose I/O fails; that it works again is only ever
// found here.
func (w *Worker) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		wait := or(w.Interval, 2*time.Second)
		if w.check(ctx) {
			wait = or(w.Hurry, 500*time.Millisecond)
		}
		timer.Reset(wait)
	}
}

// check asks every path of every map once, all at the same time, and tells the kernel. It says whether a map has no path that works.
func (w *Worker) check(ctx context.Context) (hurry bool) {
	luns, err := w.Initiator.LUNs(ctx)
	devices, err2 := w.Mapper.List()
	if err := errors.Join(err, err2); err != nil {
		if ctx.Err() == nil {
			w.log().Error("check paths", "err", err)
		}
		return false
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	changed, usable := false, map[string]int{}
	for _, d := range devices {
		if _, ok := arrayOf(d.UUID); !ok {
			continue
		}
		usable[d.Name] = 0
		for _, p := range d.Paths {
			group.Go(func() {
				told, works := w.checkPath(ctx, d.Name, p.DevNo, luns)
				mu.Lock()
				defer mu.Unlock()
				changed = changed || told
				if works {
					usable[d.Name]++
				}
			})
		}
	}
	group.Wait()
	if changed && w.Changed != nil {
		w.Changed()
	}
	for _, n := range usable {
		hurry = hurry || n == 0
	}
	return hurry
}

// checkPath asks one path, and tells the kernel what it does not know already.
func (w *Worker) checkPath(ctx context.Context, name, devNo string, luns []LUN) (told, works bool) {
	probe := w.probe(ctx, devNo, luns)
	if ctx.Err() != nil {
		return false, false // not the path's fault
	}
	now, err := w.Mapper.Paths(name)
	if err != nil {
		w.log().Warn("read paths", "map", name, "err", err)
		return false, probe == nil
	}
	i := slices.IndexFunc(now, func(p Path) bool { return p.DevNo == devNo })
	if i < 0 {
		return false, false
	}
	say := verdict(now[i].Valid, probe)
	if say == "" {
		return false, probe == nil
	}
	if err := w.Mapper.Tell(name, say+" "+devNo); err != nil {
		w.log().Warn("tell of a path", "map", name, "path", devNo, "err", err)
		return false, probe == nil
	}
	w.log().Info("path", "map", name, "path", devNo, "told", say, "probe", probe)
	return true, probe == nil
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
