package host

import (
	"context"
	"fmt"
	"strconv"

	"cloudengine/workers"
)

// resize gives a domain what its document says, as far as it can have it, and notes that in its stamp: a domain that was made with less
// gets the rest when it is made again.
func (w *Worker) resize(ctx context.Context, domid int, s workers.Step) error {
	var want [3]int
	for i, key := range []string{"memory", "vcpus", "resizes"} {
		n, err := strconv.Atoi(s.Params[key])
		if err != nil {
			return workers.Permanent(fmt.Errorf("read %s: %w", key, err))
		}
		want[i] = n
	}
	dir := "/local/domain/" + strconv.Itoa(domid)
	most, err := w.Store.Read(ctx, dir+"/memory/static-max")
	if err != nil {
		return fmt.Errorf("read what domain %d was made with: %w", domid, err)
	}
	kib, err := strconv.ParseUint(most, 10, 50)
	if err != nil {
		return fmt.Errorf("read what domain %d was made with: %w", domid, err)
	}
	if err := w.Tools.SetMemory(ctx, domid, min(want[0], int(kib>>10))); err != nil {
		return err
	}
	cpus, err := w.Store.Children(ctx, dir+"/cpu")
	if err != nil {
		return fmt.Errorf("read the vCPUs of domain %d: %w", domid, err)
	}
	if err := w.Tools.SetVCPUs(ctx, domid, max(1, min(want[1], len(cpus)))); err != nil {
		return err
	}
	if err := w.Store.Write(ctx, stampPath(domid)+"/"+nodeResizes, s.Params["resizes"]); err != nil {
		return fmt.Errorf("note the resize: %w", err)
	}
	return nil
}
