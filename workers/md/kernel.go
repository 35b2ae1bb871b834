package md

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kernel acts on the md driver of this machine. It is safe for concurrent use; making two arrays at once is serialized.
type Kernel struct {
	mu     sync.Mutex // held while an array is brought up
	names  sync.Mutex
	making map[string]bool // arrays that are being brought up
}

// ioctls of include/uapi/linux/raid/md_u.h: major 9.
const (
	ioctlAddNewDisk   = 0x40140921 // struct mdu_disk_info_t: 5 ints
	ioctlSetArrayInfo = 0x40480923 // struct mdu_array_info_t: 18 ints
	ioctlRunArray     = 0x400c0930 // struct mdu_param_t: 3 ints
	ioctlStopArray    = 0x932
)

// Bits of mdu_disk_info_t.state (md_p.h).
const (
	diskSync     = 1 << 2
	diskFailFast = 1 << 10
)

const mdMajor = 9

// Arrays is List without the arrays that a call under way is bringing up.
func (k *Kernel) Arrays(root string) ([]Array, error) {
	k.names.Lock()
	making := make(map[string]bool, len(k.making))
	for n := range k.making {
		making[n] = true
	}
	k.names.Unlock()
	all, err := List(root)
	return slices.DeleteFunc(all, func(a Array) bool { return making[a.Name] }), err
}

// claim chooses a name that no array has, and hides it from Arrays until the returned function is called.
func (k *Kernel) claim() (string, func(), error) {
	for n := range 512 {
		name := "md" + strconv.Itoa(n)
		state, err := os.ReadFile(filepath.Join("/sys/block", name, "md/array_state"))
		if err == nil && strings.TrimSpace(string(state)) != StateClear {
			continue
		}
		k.names.Lock()
		if k.making == nil {
			k.making = map[string]bool{}
		}
		k.making[name] = true
		k.names.Unlock()
		return name, func() {
			k.names.Lock()
			delete(k.making, name)
			k.names.Unlock()
		}, nil
	}
	return "", nil, errNoName
}

var errNoName = errors.New("all md device numbers are taken")

// Assemble brings an array up from exactly these members, read-write. When it returns nil, the kernel has each of them in its slot; in any
// other case the array is stopped again. It returns the array's kernel name.
func (k *Kernel) Assemble(ctx context.Context, w Wanted, members []Candidate) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name, done, err := k.claim()
	if err != nil {
		return "", err
	}
	defer done()
	if err := assemble(name, members); err != nil {
		return "", errors.Join(fmt.Errorf("assemble array %s: %w", w.UUID, err), k.Stop(ctx, name))
	}
	if err := verify(name, w, members); err != nil {
		return "", errors.Join(fmt.Errorf("assemble array %s: %w", w.UUID, err), k.Stop(ctx, name))
	}
	return name, nil
}

// open makes the array's device exist (module parameter new_array, md.rst) and opens it.
func open(name string) (*os.File, error) {
	path := "/dev/" + name
	if _, err := os.Stat(filepath.Join("/sys/block", name)); err != nil {
		if err := os.WriteFile("/sys/module/md_mod/parameters/new_array", []byte(name), 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make md device %s: %w", name, err)
		}
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, "md"))
	if err != nil {
		return nil, fmt.Errorf("read number of %s: %w", name, err)
	}
	if _, err := os.Stat(path); err != nil {
		if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(mdMajor, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make node of %s: %w", name, err)
		}
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

func assemble(name string, members []Candidate) error {
	f, err := open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info := [18]int32{1, 2} // metadata 1.2; no raid disks: the superblocks say
	if err := ioctl(f, ioctlSetArrayInfo, info[:]); err != nil {
		return fmt.Errorf("set metadata version: %w", err)
	}
	for _, m := range members {
		if err := addDisk(f, m.Dev, 0, 0); err != nil {
			return fmt.Errorf("add member %s: %w", m.Dev, err)
		}
	}
	run := [3]int32{}
	if err := ioctl(f, ioctlRunArray, run[:]); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

func addDisk(f *os.File, dev string, slot, state int32) error {
	var st unix.Stat_t
	if err := unix.Stat("/dev/"+dev, &st); err != nil {
		return err
	}
	disk := [5]int32{0, int32(unix.Major(st.Rdev)), int32(unix.Minor(st.Rdev)), slot, state}
	return ioctl(f, ioctlAddNewDisk, disk[:])
}

func ioctl(f *os.File, op uint, arg []int32) error {
	var p unsafe.Pointer
	if len(arg) > 0 {
		p = unsafe.Pointer(&arg[0])
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(op), uintptr(p)); errno != 0 {
		return errno
	}
	return nil
}

var errUnlike = errors.New("it did not come up as it should")

// verify compares an array that runs with what was to be assembled.
func verify(name string, w Wanted, members []Candidate) error {
	a, err := readArray(filepath.Join("/sys/block", name))
	if err != nil {
		return err
	}
	if a.UUID != w.UUID || a.RaidDisks != w.RaidDisks || a.Layout != layout(w.Copies) || !a.Serves() || len(a.Members) != len(members) {
		return fmt.Errorf("%w: %+v", errUnlike, a)
	}
	for _, m := range members {
		if have := a.Of(m.Dev); have == nil || have.Slot != m.Slot || have.Is("faulty") {
			return fmt.Errorf("%w: %s is not in slot %d: %+v", errUnlike, m.Dev, m.Slot, a.Members)
		}
	}
	return nil
}

// Stop ends an array: its superblocks are clean then, and no member of it is written any more. One that is in use is an error (EBUSY); one
// that is not there is none.
func (k *Kernel) Stop(_ context.Context, name string) error {
	f, err := os.OpenFile("/dev/"+name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop array %s: %w", name, err)
	}
	defer f.Close()
	if err := ioctl(f, ioctlStopArray, nil); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("stop array %s: %w", name, err)
	}
	return nil
}

// set writes an attribute of a running array.
func set(name, attribute, value string) error {
	path := filepath.Join("/sys/block", name, "md", attribute)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

var errLast = errors.New("it is the last good copy of its set")

// Fail makes the array do without a member from now on. It refuses the last good copy of a set: the kernel would break the array.
func (k *Kernel) Fail(_ context.Context, name, dev string) error {
	a, err := readArray(filepath.Join("/sys/block", name))
	if err != nil {
		return fmt.Errorf("fail %s in %s: %w", dev, name, err)
	}
	m := a.Of(dev)
	if m == nil || m.Is("faulty") {
		return nil
	}
	if m.Slot >= 0 && !a.Spare(m.Slot) {
		return fmt.Errorf("fail %s in %s: %w", dev, name, errLast)
	}
	if err := set(name, "dev-"+dev+"/state", "faulty"); err != nil {
		return fmt.Errorf("fail %s in %s: %w", dev, name, err)
	}
	return nil
}

// Remove lets go of a faulty member, or of one without a slot. md first finishes what it had sent to it, so it may take some time.
func (k *Kernel) Remove(ctx context.Context, name, dev string) error {
	a, err := readArray(filepath.Join("/sys/block", name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s from %s: %w", dev, name, err)
	}
	if m := a.Of(dev); m != nil && m.Slot < 0 && !m.Is("faulty") { // md would take it into a slot, instead (remove_and_add_spares)
		if err := set(name, "dev-"+dev+"/state", "faulty"); err != nil {
			return fmt.Errorf("remove %s from %s: %w", dev, name, err)
		}
	}
	for {
		err := set(name, "dev-"+dev+"/state", "remove")
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case !errors.Is(err, unix.EBUSY):
			if err != nil {
				return fmt.Errorf("remove %s from %s: %w", dev, name, err)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove %s from %s: %w", dev, name, errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Thaw lets an array recover again, if a call that was cut off has left it frozen.
func (k *Kernel) Thaw(_ context.Context, name string) error {
	if err := set(name, "sync_action", "idle"); err != nil {
		return fmt.Errorf("thaw %s: %w", name, err)
	}
	return nil
}
