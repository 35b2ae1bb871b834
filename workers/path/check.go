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

// Run checks all paths again and again, until ctx ends. The kernel itself fails a path whose I/O fails; that it works again is only ever
// found here: soon, while a map has none that works.
func (w *Worker) Run(ctx context.Context) error {
	tick := time.NewTicker(or(w.Hurry, 500*time.Millisecond))
	defer tick.Stop()
	var maps []string
	var last time.Time
	for {
		if maps == nil || time.Since(last) >= or(w.Interval, 2*time.Second) || w.stuck(maps) {
			maps, last = w.check(ctx), time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// stuck says whether a map has no path that works.
func (w *Worker) stuck(maps []string) bool {
	return slices.ContainsFunc(maps, func(name string) bool {
		paths, err := w.Mapper.Paths(name)
		return err == nil && !slices.ContainsFunc(paths, func(p Path) bool { return p.Valid })
	})
}

// check asks every path of every map once, all at the same time, and tells the kernel. It names the maps.
func (w *Worker) check(ctx context.Context) (maps []string) {
	luns, err := w.Initiator.LUNs(ctx)
	devices, err2 := w.Mapper.List()
	if err := errors.Join(err, err2); err != nil {
		if ctx.Err() == nil {
			w.log().Error("check paths", "err", err)
		}
		return nil
	}
	var group sync.WaitGroup
	var changed atomic.Bool
	maps = []string{}
	for _, d := range devices {
		if _, ok := arrayOf(d.UUID); !ok {
			continue
		}
		maps = append(maps, d.Name)
		for _, p := range d.Paths {
			group.Go(func() {
				if w.checkPath(ctx, d.Name, p.DevNo, luns) {
					changed.Store(true)
				}
			})
		}
	}
	group.Wait()
	if changed.Load() && w.Changed != nil {
		w.Changed()
	}
	return maps
}

// checkPath asks one path, and tells the kernel what it does not know already. It says whether it did.
func (w *Worker) checkPath(ctx context.Context, name, devNo string, luns []LUN) bool {
	probe := w.probe(ctx, devNo, luns)
	if ctx.Err() != nil {
		return false // not the path's fault
	}
	now, err := w.Mapper.Paths(name)
	if err != nil {
		w.log().Warn("read paths", "map", name, "err", err)
		return false
	}
	i := slices.IndexFunc(now, func(p Path) bool { return p.DevNo == devNo })
	if i < 0 {
		return false
	}
	say := verdict(now[i].Valid, probe)
	if say == "" {
		return false
	}
	if err := w.Mapper.Tell(name, say+" "+devNo); err != nil {
		w.log().Warn("tell of a path", "map", name, "path", devNo, "err", err)
		return false
	}
	w.log().Info("path", "map", name, "path", devNo, "told", say, "probe", probe)
	return true
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
