package md

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cloudengine/workers/sysfs"
)

// States of arrays (array_state) in which they serve reads and writes, and others that are named here.
const (
	StateBroken   = "broken"
	StateInactive = "inactive"
	StateClear    = "clear"
)

var serving = []string{"clean", "active", "active-idle", "write-pending", "read-auto"}

// Array is what sysfs says of one array.
type Array struct {
	Name       string // md0
	DevNo      string // 9:0
	UUID       string // empty: it does not run
	State      string // array_state
	Level      string
	Layout     int
	RaidDisks  int
	ChunkKiB   int
	Sectors    uint64
	Degraded   int
	SyncAction string // idle, resync, recover, check, repair, reshape, frozen
	SyncDone   int    // per mille
	Sync       Sync
	Members    []Member
	Holders    []string // dm devices and the like on top of it
}

// Member is a device of an array.
type Member struct {
	Dev    string // sda
	Slot   int    // -1: none
	States []string
}

// Serves says whether the array takes reads and writes.
func (a Array) Serves() bool { return slices.Contains(serving, a.State) }

// Path gives its device node.
func (a Array) Path() string { return "/dev/" + a.Name }

// Copies gives the copies of each chunk.
func (a Array) Copies() int { return a.Layout & 0xff }

// InSlot gives the member in a slot that is not faulty, or nil. One that is filled in the place of another counts only without that.
func (a Array) InSlot(slot int) *Member {
	var found *Member
	for i, m := range a.Members {
		if m.Slot == slot && !m.Is("faulty") && (found == nil || found.Is(replacement)) {
			found = &a.Members[i]
		}
	}
	return found
}

// Of gives the member that is a device, or nil.
func (a Array) Of(dev string) *Member {
	for i, m := range a.Members {
		if m.Dev == dev {
			return &a.Members[i]
		}
	}
	return nil
}

// Spare says whether the set of a slot has another good copy, so that the one in the slot may be lost.
func (a Array) Spare(slot int) bool {
	n := a.Copies()
	if n == 0 || slot < 0 {
		return false
	}
	for i := slot / n * n; i < slot/n*n+n; i++ {
		if m := a.InSlot(i); i != slot && m != nil && m.Is("in_sync") {
			return true
		}
	}
	return false
}

// replacement is the state of a member that is filled beside the one that it shall follow (md.rst).
const replacement = "replacement"

// Is says whether a member has a state: in_sync, faulty, spare, failfast, …
func (m Member) Is(state string) bool { return slices.Contains(m.States, state) }

// List gives all arrays that the kernel has, also half assembled ones, by name. root is "" for the real /sys.
func List(root string) ([]Array, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "/sys/block/md*/md"))
	if err != nil {
		return nil, fmt.Errorf("list md arrays: %w", err)
	}
	var out []Array
	for _, d := range dirs {
		a, err := readArray(filepath.Dir(d))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EBUSY) {
			continue // it was stopped and goes away (md_attr_show)
		}
		if err != nil {
			return nil, fmt.Errorf("read md array: %w", err)
		}
		if a.State == StateClear && len(a.Members) == 0 {
			continue // a device number that was touched, or what is left of a stopped array
		}
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// attributes reads files of one folder; the first error counts.
type attributes struct {
	dir string
	err error
}

func (r *attributes) text(name string) string {
	text, err := sysfs.Read(filepath.Join(r.dir, name))
	if err != nil && r.err == nil {
		r.err = err
	}
	return text
}

// maybe is text for a file that some states of an array do not have, or cannot be read in.
func (r *attributes) maybe(name string) string {
	text, err := sysfs.Read(filepath.Join(r.dir, name))
	if err != nil {
		return ""
	}
	return text
}

func first(s string) int {
	f := strings.Fields(s)
	if len(f) == 0 {
		return 0
	}
	n, err := strconv.Atoi(f[0])
	if err != nil {
		return 0
	}
	return n
}

func readArray(dir string) (Array, error) {
	r := &attributes{dir: dir}
	a := Array{Name: filepath.Base(dir), DevNo: r.text("dev"), State: r.text("md/array_state"), Level: r.text("md/level")}
	a.RaidDisks, a.Layout = first(r.text("md/raid_disks")), first(r.maybe("md/layout"))
	a.ChunkKiB = first(r.maybe("md/chunk_size")) >> 10
	a.Degraded, a.SyncAction = first(r.maybe("md/degraded")), r.maybe("md/sync_action")
	a.SyncDone = perMille(r.maybe("md/sync_completed"))
	a.Sync = readSync(r)
	a.UUID = r.maybe("md/uuid")
	if a.UUID == "00000000-0000-0000-0000-000000000000" {
		a.UUID = ""
	}
	n, err := strconv.ParseUint(r.text("size"), 10, 64)
	if err == nil {
		a.Sectors = n
	}
	if r.err != nil {
		return a, r.err
	}
	if a.Members, err = readMembers(filepath.Join(dir, "md")); err != nil {
		return a, err
	}
	holders, err := os.ReadDir(filepath.Join(dir, "holders"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return a, err
	}
	for _, h := range holders {
		a.Holders = append(a.Holders, h.Name())
	}
	return a, nil
}

// perMille reads sync_completed: "done / total" in sectors, or "none".
func perMille(s string) int {
	var done, total uint64
	if _, err := fmt.Sscanf(s, "%d / %d", &done, &total); err != nil || total == 0 {
		return 0
	}
	return int(done * 1000 / total)
}

func readMembers(dir string) ([]Member, error) {
	found, err := filepath.Glob(filepath.Join(dir, "dev-*"))
	if err != nil {
		return nil, err
	}
	var out []Member
	for _, d := range found {
		r := &attributes{dir: d}
		m := Member{Dev: strings.TrimPrefix(filepath.Base(d), "dev-"), Slot: -1}
		for _, s := range strings.Split(r.text("state"), ",") {
			if s != "" {
				m.States = append(m.States, s)
			}
		}
		if n, err := strconv.Atoi(r.text("slot")); err == nil {
			m.Slot = n
		}
		if r.err != nil {
			continue // it is being removed
		}
		out = append(out, m)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Dev < out[j].Dev })
	return out, nil
}
