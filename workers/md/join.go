package md

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spec is an array that is to be made.
type Spec struct {
	Wanted
	Name      string   // for humans who look at a leg: at most 24 characters are kept
	LegKiB    int64    // of each leg that are used; a multiple of ChunkKiB
	OffsetKiB int64    // where they begin: room for the superblock and the bitmap
	Devs      []string // kernel names, by slot
}

// mostBits bounds the bits of the bitmap, so that it fits into OffsetKiB however large the legs are: 2 MiB.
const mostBits = 16 << 20

// BitmapChunkKiB gives the size of what one bit of the bitmap stands for: at least 1 MiB, a power of two.
func (s Spec) BitmapChunkKiB() int64 {
	chunk := int64(1024)
	for s.LegKiB*int64(len(s.Devs))/int64(max(1, s.Copies))/chunk > mostBits {
		chunk *= 2
	}
	return chunk
}

// Arguments gives what mdadm is called with (mdadm(8)). There is no --assume-clean: what the legs hold is not known, so they are made equal
// by a first resync, during which the array is used already.
func (s Spec) Arguments(device string) []string {
	name := s.Name
	if len(name) > 24 {
		name = name[:24]
	}
	args := []string{
		"--create", device, "--run", "--quiet", "--config=none", "--metadata=1.2", "--level=10", "--layout=n" + strconv.Itoa(s.Copies),
		"--raid-devices=" + strconv.Itoa(len(s.Devs)), fmt.Sprintf("--chunk=%dK", s.ChunkKiB), fmt.Sprintf("--size=%dK", s.LegKiB),
		fmt.Sprintf("--data-offset=%dK", s.OffsetKiB), "--bitmap=internal", fmt.Sprintf("--bitmap-chunk=%dK", s.BitmapChunkKiB()), "--failfast",
		"--uuid=" + strings.ReplaceAll(s.UUID, "-", ""), "--name=" + name, "--homehost=any",
	}
	for _, d := range s.Devs {
		args = append(args, "/dev/"+d)
	}
	return args
}

// Create writes the superblocks of a new array and brings it up. What was on the legs is lost: the caller makes sure that they are no array's.
// It returns the array's kernel name. After an error, or a kill, superblocks of an array that never ran may be there (NeverRan).
func (k *Kernel) Create(ctx context.Context, s Spec) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name, done, err := k.claim()
	if err != nil {
		return "", err
	}
	defer done()
	members := make([]Candidate, len(s.Devs))
	for i, d := range s.Devs {
		members[i] = Candidate{Slot: i, Dev: d}
	}
	if err := mdadm(ctx, s.Arguments("/dev/"+name)...); err != nil {
		return "", errors.Join(fmt.Errorf("create array %s: %w", s.UUID, err), k.Stop(ctx, name))
	}
	if err := verify(name, s.Wanted, members); err != nil {
		return "", errors.Join(fmt.Errorf("create array %s: %w", s.UUID, err), k.Stop(ctx, name))
	}
	return name, nil
}

// mdadm runs the program. It must not wait for an udev that is not there, nor read a configuration.
func mdadm(ctx context.Context, args ...string) error {
	if err := os.MkdirAll("/run/mdadm", 0o755); err != nil {
		return fmt.Errorf("make folder of mdadm: %w", err)
	}
	cmd := exec.CommandContext(ctx, "mdadm", args...)
	cmd.Env = append(os.Environ(), "MDADM_NO_UDEV=1", "MDADM_NO_SYSTEMCTL=1", "MDADM_NO_MDMON=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // the next agent must not find one of its predecessor's still writing
	runtime.LockOSThread()                                             // the signal comes when the thread that started it ends
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("mdadm %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

// Join puts a device back into its slot of a running array. If the kernel finds it to be a member that only missed some writes, those are
// copied (by the bitmap); else it is taken as a new one, and copied as a whole. It refuses a member of another array, and one that was
// written after this array was last: that would be a split.
func (k *Kernel) Join(ctx context.Context, name, dev string, slot int) error {
	a, err := readArray(filepath.Join("/sys/block", name))
	if err != nil {
		return fmt.Errorf("join %s to %s: %w", dev, name, err)
	}
	if m := a.Of(dev); m != nil || a.InSlot(slot) != nil || !a.Spare(slot) {
		return fmt.Errorf("join %s to %s: %w", dev, name, errSlot)
	}
	s, err := ReadSuper("/dev/" + dev)
	switch {
	case errors.Is(err, ErrNoSuper):
		return k.add(ctx, a, dev, slot)
	case err != nil:
		return fmt.Errorf("join %s to %s: %w", dev, name, err)
	case s.UUID != a.UUID:
		return fmt.Errorf("join %s to %s: %w: %s", dev, name, errForeign, s.UUID)
	}
	if err := notNewer(a, s); err != nil {
		return fmt.Errorf("join %s to %s: %w", dev, name, err)
	}
	if s.Slot() == slot {
		if err := readd(name, dev, slot, s.FailFast); !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if err := eraseSuper("/dev/" + dev); err != nil {
		return fmt.Errorf("join %s to %s: %w", dev, name, err)
	}
	return k.add(ctx, a, dev, slot)
}

var (
	errSlot    = errors.New("it is there already, its slot is taken, or its set has no good copy")
	errForeign = errors.New("it is a member of another array")
	errNewer   = errors.New("it was written after the array was: a human must choose")
)

// notNewer compares a returning member with the good ones.
func notNewer(a Array, returning Super) error {
	for _, m := range a.Members {
		if !m.Is("in_sync") {
			continue
		}
		s, err := ReadSuper("/dev/" + m.Dev)
		if err != nil {
			continue
		}
		if returning.Events > s.Events {
			return fmt.Errorf("%w: event count %d, the array has %d", errNewer, returning.Events, s.Events)
		}
		return nil
	}
	return errors.New("no good member of it can be read")
}

// readd gives the kernel a member that it knows: it reads its superblock again, and refuses (EINVAL) if the bitmap does not reach back so far.
func readd(name, dev string, slot int, failFast bool) error {
	f, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("re-add %s to %s: %w", dev, name, err)
	}
	defer f.Close()
	state := int32(diskSync)
	if failFast {
		state |= diskFailFast
	}
	if err := addDisk(f, dev, int32(slot), state); err != nil {
		return fmt.Errorf("re-add %s to %s: %w", dev, name, err)
	}
	return nil
}

// add takes a device as a new member. The array is frozen meanwhile, so that it goes into its own slot and into no other free one.
func (k *Kernel) add(ctx context.Context, a Array, dev string, slot int) (err error) {
	if err := set(a.Name, "sync_action", "frozen"); err != nil {
		return fmt.Errorf("add %s to %s: freeze it: %w", dev, a.Name, err)
	}
	if a.SyncAction != ActionFrozen { // else it shall stay so
		defer func() { err = errors.Join(err, k.Thaw(ctx, a.Name)) }()
	}
	if err := mdadm(ctx, "--manage", a.Path(), "--failfast", "--add", "/dev/"+dev); err != nil {
		return fmt.Errorf("add %s to %s: %w", dev, a.Name, err)
	}
	if old := a.InSlot(slot); old != nil { // Replace: without this mark the slot is taken
		if err := set(a.Name, "dev-"+old.Dev+"/state", "want_replacement"); err != nil {
			return errors.Join(fmt.Errorf("want a replacement of %s in %s: %w", old.Dev, a.Name, err), k.Remove(ctx, a.Name, dev))
		}
	}
	if err := set(a.Name, "dev-"+dev+"/slot", strconv.Itoa(slot)); err != nil { // without a slot md would take it into any that is free
		return errors.Join(fmt.Errorf("put %s into slot %d of %s: %w", dev, slot, a.Name, err), k.Remove(ctx, a.Name, dev))
	}
	return nil
}
