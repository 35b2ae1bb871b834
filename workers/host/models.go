package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cloudengine/workers"
)

// missingModels looks again for the device models of domains that seem to have none: one that was made after the first look has one.
func (w *Worker) missingModels(ctx context.Context, o *Observed) error {
	missing := false
	for _, d := range o.Domains {
		s, ok := o.stampOf(d)
		missing = missing || ok && o.lostModel(d, s)
	}
	if !missing {
		return nil
	}
	again, err := w.Tools.DeviceModels(ctx)
	if err != nil {
		return err
	}
	for _, d := range o.Domains {
		if slices.Contains(again, d.DomID) && !slices.Contains(o.Models, d.DomID) {
			o.Models = append(o.Models, d.DomID)
		}
	}
	return nil
}

var errLives = errors.New("its domain is there")

// endModel kills the device model of a domain, if it is gone.
func (w *Worker) endModel(ctx context.Context, s workers.Step) error {
	domid, err := strconv.Atoi(s.Target)
	if err != nil {
		return workers.Permanent(fmt.Errorf("read domain id: %w", err))
	}
	all, err := w.Tools.List(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(d Domain) bool { return d.DomID == domid }) {
		return fmt.Errorf("end the device model of domain %d: %w", domid, errLives)
	}
	return w.Tools.EndModel(ctx, domid)
}

// modelPatience is how long a device model that was killed may take to end.
const modelPatience = 10 * time.Second

var errModel = errors.New("its device model does not end")

// modelEnds makes sure that the device model of a domain that was destroyed is gone: nothing that it still has open is touched any more.
func (w *Worker) modelEnds(ctx context.Context, domid int) error {
	for began := time.Now(); ; {
		left, err := w.Tools.DeviceModels(ctx)
		if err != nil || !slices.Contains(left, domid) {
			return err
		}
		if time.Since(began) > modelPatience {
			return fmt.Errorf("destroy domain %d: %w", domid, errModel)
		}
		if err := w.Tools.EndModel(ctx, domid); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("destroy domain %d: %w", domid, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
