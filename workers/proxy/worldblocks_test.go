package proxy_test

import (
	"context"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/dm"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
)

// blocks is world's I/O.
type blocks struct{ *world }

func (w blocks) Super(name string) (md.Super, error) {
	if f := w.between; f != nil {
		w.between = nil
		f()
	}
	switch d := w.disk(name); {
	case !w.seen(d):
		return md.Super{}, unix.EIO
	case !w.works(d):
		return md.Super{}, unix.EBADE
	case d.super == nil:
		return md.Super{}, md.ErrNoSuper
	default:
		return *d.super, nil
	}
}

func (w blocks) Zero(_ context.Context, path string, offset, length int64) error {
	return w.act("zero", func() error {
		front := w.device(strings.TrimPrefix(path, "/dev/mapper/"))
		if front == nil || dm.IsError(front.Table) {
			return unix.EIO
		}
		id := events.ArrayID(strings.TrimPrefix(front.Name, "ce-"))
		if err := w.alive(string(id)); err != nil {
			return err
		}
		for at := offset; at < offset+length; at += extentMiB << 20 {
			e := int(at>>20-startMiB) / extentMiB
			if why := w.mayZero(id, e); why != "" {
				w.complain("extent %d of %s is zeroed: %s", e, id, why)
			}
			w.data[id][e] = "0"
		}
		return w.zeroFile(offset, length)
	})
}

// Fill writes to the file that stands for the array, if there is one, and notes which extents hold an image.
func (w blocks) Fill(ctx context.Context, path string, runs []proxy.Run, from io.Reader, size int64) error {
	return w.act("fill", func() error {
		front := w.device(strings.TrimPrefix(path, "/dev/mapper/"))
		if front == nil || dm.IsError(front.Table) {
			return unix.EIO
		}
		id := events.ArrayID(strings.TrimPrefix(front.Name, "ce-"))
		if err := w.alive(string(id)); err != nil {
			return err
		}
		w.marks(id, runs, func(e int) {
			if x := w.data[id][e]; x != "0" && x != "image" {
				w.complain("extent %d of %s is filled, and holds %q", e, id, x)
			}
			w.data[id][e] = "image"
		})
		if w.file == "" {
			_, err := io.CopyN(io.Discard, from, size)
			return err
		}
		return proxy.Direct{}.Fill(ctx, w.file, runs, from, size)
	})
}

// marks goes through the extents that runs touch.
func (w *world) marks(id events.ArrayID, runs []proxy.Run, each func(extent int)) {
	for _, r := range runs {
		for e := int(r.Offset>>20-startMiB) / extentMiB; r.Length > 0 && extentStart(e) < r.Offset+r.Length; e++ {
			each(e)
		}
	}
}

func extentStart(e int) int64 { return int64(startMiB+e*extentMiB) << 20 }

// Open reads that file, or zeroes. Nothing is read that is not an image.
func (w blocks) Open(path string, runs []proxy.Run) (io.ReadCloser, error) {
	var parts []io.Reader
	err := w.act("open", func() error {
		front := w.device(strings.TrimPrefix(path, "/dev/mapper/"))
		if front == nil || dm.IsError(front.Table) {
			return unix.EIO
		}
		id := events.ArrayID(strings.TrimPrefix(front.Name, "ce-"))
		w.marks(id, runs, func(e int) {
			if x := w.data[id][e]; x != "image" {
				w.complain("a volume is copied from extent %d of %s, which holds %q", e, id, x)
			}
		})
		if w.file == "" {
			parts = append(parts, zeroes{})
			return w.alive(string(id))
		}
		f, err := os.Open(w.file)
		if err != nil {
			return err
		}
		for _, r := range runs {
			parts = append(parts, io.NewSectionReader(f, r.Offset, r.Length))
		}
		return w.alive(string(id))
	})
	return io.NopCloser(io.MultiReader(parts...)), err
}

// zeroes never ends.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (w records) Remove(_ context.Context, id events.ArrayID, _ string, v events.VolumeID) error {
	return w.act("drop "+string(v), func() error {
		if err := w.alive(string(id)); err != nil {
			return err
		}
		delete(w.records[id].Volumes, v)
		return nil
	})
}
