package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"cloudengine/events"
	"cloudengine/workers"
	"cloudengine/workers/dm"
)

func ownerPath(id events.ArrayID) string { return dm.Path(ownerName(id)) }

// Apply does one step. Each may be done again.
func (w *Worker) Apply(ctx context.Context, s workers.Step) error {
	w.init()
	id := events.ArrayID(s.Target)
	switch s.Kind {
	case stepLogin, stepLogout, stepRescan:
		return w.login(ctx, s)
	case stepState:
		return w.Target.SetState(ctx, id, s.Params["state"])
	case stepExport:
		var e Export
		if err := json.Unmarshal([]byte(s.Params["export"]), &e); err != nil {
			return workers.Permanent(fmt.Errorf("read export: %w", err))
		}
		return w.Target.Set(ctx, e)
	case stepUnexport:
		return w.Target.Remove(ctx, id)
	case stepClose, stepFront, stepOpen:
		return w.front(id, s)
	case stepUnfront:
		return w.Mapper.Remove(FrontName(id))
	case stepDisown:
		return w.Mapper.Remove(ownerName(id))
	case stepStop:
		return w.Arrays.Stop(ctx, s.Params["md"])
	case stepLock:
		return w.lock(ctx, id, s)
	case stepUnlock:
		return w.unlock(ctx, s)
	case stepHalt:
		return w.Arrays.Stop(ctx, s.Target)
	case stepCreate, stepAssemble:
		return w.bringUp(ctx, id, s)
	}
	return w.applyToRunning(ctx, id, s)
}

// applyToRunning does the steps for an array that runs.
func (w *Worker) applyToRunning(ctx context.Context, id events.ArrayID, s workers.Step) error {
	name, dev := s.Params["md"], s.Params["dev"]
	switch s.Kind {
	case stepThaw, stepFreeze, stepSpeed, stepCheck:
		return w.sync(ctx, id, s)
	case stepFail:
		return w.Arrays.Fail(ctx, name, dev)
	case stepRemove:
		return w.Arrays.Remove(ctx, name, dev)
	case stepJoin, stepReplace:
		return w.join(ctx, id, name, s)
	case stepZero:
		return w.zero(ctx, id, s)
	case stepFill:
		return w.fill(ctx, s)
	case stepRecord:
		n, err := numbers(s, "start", "extent")
		if err != nil {
			return err
		}
		defer w.changed(id)
		return w.Records.Init(ctx, id, ownerPath(id), int(n[0]), int(n[1]))
	case stepExtend, stepDrop:
		return w.book(ctx, id, s)
	}
	return workers.Permanent(fmt.Errorf("step %q: %w", s.Kind, errUnknownStep))
}

// numbers reads parameters.
func numbers(s workers.Step, names ...string) ([]int64, error) {
	var out []int64
	for _, n := range names {
		x, err := strconv.ParseInt(s.Params[n], 10, 64)
		if err != nil {
			return nil, workers.Permanent(fmt.Errorf("read %s: %w", n, err))
		}
		out = append(out, x)
	}
	return out, nil
}

func (w *Worker) login(ctx context.Context, s workers.Step) error {
	n := Node{Transport: s.Params["transport"], Machine: events.MachineID(s.Target), Address: s.Params["address"]}
	switch s.Kind {
	case stepLogin:
		return w.Initiator.Login(ctx, n)
	case stepRescan:
		return w.Initiator.Rescan(ctx, n)
	}
	w.session.Lock()
	defer w.session.Unlock()
	used, err := w.usesNode(ctx, n)
	if err != nil {
		return err
	}
	if used {
		return fmt.Errorf("log out of %s: %w", n.Machine, errUsed)
	}
	return w.Initiator.Logout(ctx, n)
}

var (
	errUsed     = errors.New("an array has a leg on it")
	errChanged  = errors.New("the machine is not any more as it was planned for")
	errNoDevice = errors.New("its device is not there")
)

// usesNode says whether an md array has a member on a node now.
func (w *Worker) usesNode(ctx context.Context, n Node) (bool, error) {
	arrays, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return false, err
	}
	luns, err := w.Initiator.LUNs(ctx)
	if err != nil {
		return false, fmt.Errorf("list LUNs: %w", err)
	}
	o := Observed{LUNs: luns}
	for _, a := range arrays {
		o.MD = append(o.MD, MD{Array: a})
	}
	return needed(n, o), nil
}

// find gives a device of ours, or nil.
func (w *Worker) find(name, uuid string) (*dm.Device, error) {
	all, err := w.Mapper.List()
	if err != nil {
		return nil, err
	}
	return Observed{Devices: all}.device(name, uuid), nil
}

// front makes, closes or opens an array's front. Only an owner device of the epoch that was planned for is opened.
func (w *Worker) front(id events.ArrayID, s workers.Step) error {
	name := FrontName(id)
	have, err := w.find(name, frontUUID)
	if err != nil {
		return err
	}
	sectors := uint64(1)
	if n := s.Params["sectors"]; n != "" {
		if sectors, err = strconv.ParseUint(n, 10, 64); err != nil {
			return workers.Permanent(fmt.Errorf("read sectors: %w", err))
		}
	} else if have != nil {
		sectors = max(1, dm.Sectors(have.Table))
	}
	table := []dm.Target{dm.Error(0, sectors)}
	if s.Kind == stepOpen {
		epoch, err := events.ParseEpoch(s.Params["epoch"])
		if err != nil {
			return workers.Permanent(err)
		}
		uuid := ownerUUID(id, epoch)
		own, err := w.find(ownerName(id), uuid)
		if err != nil {
			return err
		}
		if own == nil || own.UUID != uuid {
			return fmt.Errorf("open the front of %s: %w", id, errChanged)
		}
		table[0] = dm.Linear(0, sectors, own.Number(), 0)
	}
	if have == nil {
		return w.Mapper.Create(name, frontUUID+string(id), table)
	}
	return w.Mapper.Reload(name, table)
}

// legNow checks that a device is still the leg that was planned with.
func (w *Worker) legNow(ctx context.Context, dev, naa string) error {
	luns, err := w.Initiator.LUNs(ctx)
	if err != nil {
		return fmt.Errorf("list LUNs: %w", err)
	}
	for _, l := range luns {
		if l.Dev == dev && l.NAA == naa {
			return nil
		}
	}
	return fmt.Errorf("use %s as leg %s: %w", dev, naa, errChanged)
}

func (w *Worker) join(ctx context.Context, id events.ArrayID, name string, s workers.Step) error {
	n, err := numbers(s, "slot")
	if err != nil {
		return err
	}
	own, err := w.ownKey(id, s.Params["epoch"])
	if err != nil {
		return err
	}
	w.session.Lock()
	defer w.session.Unlock()
	if err := w.legNow(ctx, s.Params["dev"], s.Params["naa"]); err != nil {
		return err
	}
	if err := w.heldNow(ctx, s.Params["dev"], own); err != nil {
		return err
	}
	if s.Kind == stepReplace {
		return w.Arrays.Replace(ctx, name, s.Params["dev"], int(n[0]))
	}
	return w.Arrays.Join(ctx, name, s.Params["dev"], int(n[0]))
}

func (w *Worker) zero(ctx context.Context, id events.ArrayID, s workers.Step) error {
	n, err := numbers(s, "offset", "length", "done")
	if err != nil {
		return err
	}
	if err := w.Blocks.Zero(ctx, dm.Path(FrontName(id)), n[0], n[1]); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zeroed[s.Params["key"]] = int(n[2])
	return nil
}

// book writes records.
func (w *Worker) book(ctx context.Context, id events.ArrayID, s workers.Step) error {
	defer w.changed(id)
	v := events.VolumeID(s.Params["volume"])
	if s.Kind == stepDrop {
		return w.Records.Remove(ctx, id, ownerPath(id), v)
	}
	var more []events.Segment
	if err := json.Unmarshal([]byte(s.Params["segments"]), &more); err != nil {
		return workers.Permanent(fmt.Errorf("read segments: %w", err))
	}
	n, err := numbers(s, "have")
	if err != nil {
		return err
	}
	return w.Records.Extend(ctx, id, ownerPath(id), v, int(n[0]), more)
}
