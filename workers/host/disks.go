package host

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Disks are the block devices below domains. The worker of workers/path has them.
type Disks interface {
	// Ready waits a little until the device of a volume stands, has its size in bytes, and leads to its array. It gives the device's path,
	// or says what is missing.
	Ready(ctx context.Context, volume events.VolumeID, array events.ArrayID, bytes int64) (path string, err error)
	// Device gives the number of a volume's device, as 253:4, and whether anybody has it open.
	Device(ctx context.Context, volume events.VolumeID) (number string, open bool, err error)
	// Numbers gives the numbers of all volumes' devices.
	Numbers(ctx context.Context) (map[events.VolumeID]string, error)
}

// Disk is a disk of a domain, as it is made from.
type Disk struct {
	Slot     string // as the guest sees it: xvda …
	Path     string // of the block device; of a seed, the file by which the hotplug script finds it
	ReadOnly bool
}

// HotplugScript is what libxl calls for a disk, below /etc/xen/scripts.
const HotplugScript = "ce-hotplug"

var slotPattern = regexp.MustCompile(`^xvd[a-z]$`)

func (d Disk) check() error {
	if !slotPattern.MatchString(d.Slot) || !strings.HasPrefix(d.Path, "/") || strings.ContainsAny(d.Path, "\"\\ ") {
		return fmt.Errorf("disk %q on %q: %w", d.Slot, d.Path, errConfig)
	}
	return nil
}

// text gives one disk of a domain of a type as xl-disk-configuration(5) wants it; the target takes all that is left. The first four of an HVM domain's
// are emulated too, until its guest uses Xen's own drivers: the device model writes past the control domain's memory (direct-io-safe), so that what
// is acknowledged is on the array, and what the one way has written is not hidden from the other.
func (d Disk) text(domainType string) string {
	access, direct := "rw", ""
	if d.ReadOnly {
		access = "r"
	}
	if domainType == events.TypeHVM {
		direct = "direct-io-safe,"
	}
	return "format=raw,vdev=" + d.Slot + ",access=" + access + ",backendtype=phy," + direct + "script=" + HotplugScript + ",target=" + d.Path
}

// neededDisk is a disk that a step needs.
type neededDisk struct {
	slot   string
	volume events.VolumeID
	array  events.ArrayID
	bytes  int64
}

// printDisks writes the disks of a document as a step's parameter: slot=volume/array/bytes, by slot.
func printDisks(disks []desired.Disk) string {
	out := make([]string, 0, len(disks))
	for _, d := range disks {
		out = append(out, fmt.Sprintf("%s=%s/%s/%d", d.Slot, d.Volume, d.Array, bytesOf(d)))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func bytesOf(d desired.Disk) int64 {
	var n int64
	for _, s := range d.Segments {
		n += int64(s.Count)
	}
	return n * int64(d.ExtentMiB) << 20
}

// parseDisks reads what printDisks wrote.
func parseDisks(text string) ([]neededDisk, error) {
	var out []neededDisk
	for _, word := range strings.Fields(text) {
		slot, rest, ok := strings.Cut(word, "=")
		f := strings.Split(rest, "/")
		if !ok || len(f) != 3 {
			return nil, fmt.Errorf("read disk %q: %w", word, errConfig)
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("read size of disk %q: %w", word, errConfig)
		}
		out = append(out, neededDisk{slot, events.VolumeID(f[0]), events.ArrayID(f[1]), n})
	}
	return out, nil
}

// awaitDisks plans to wait for the disks, before anything is ended or made for them.
func (p *planner) awaitDisks() {
	for _, d := range p.w.Disks {
		p.do(workers.Step{
			Kind: stepDisk, Target: string(d.Volume), Params: map[string]string{"disks": printDisks([]desired.Disk{d})},
			Why: DomainName(p.w.VM, p.w.Name) + " has it as " + d.Slot,
		})
	}
}

// attached plans to look whether a domain has the disks of its document and no others, before it runs. seed is the name of the seed that it
// was made with; empty: if it has one, then any of its VM's.
func (p *planner) attached(target, uuid, seed string) {
	if len(p.w.Disks) == 0 && p.w.Seed == nil && len(p.w.NICs) == 0 {
		return
	}
	s := workers.Step{
		Kind: stepAttached, Target: target, Params: map[string]string{"uuid": uuid, "disks": printDisks(p.w.Disks)},
		Why: "before it runs: its disks must be those of its document",
	}
	if len(p.w.NICs) > 0 {
		s.Params["nics"] = printNICs(p.w.NICs)
		s.Why = "before it runs: its disks and NICs must be those of its document"
	}
	if p.w.Seed != nil {
		s.Params["vm"], s.Params["seed"] = string(p.w.VM), seed
	}
	p.do(s)
}

var (
	errNoDisks  = errors.New("this agent has no disks")
	errAttached = errors.New("the domain has other disks than its document says")
)

// disks gives the block devices of a step, once they stand.
func (w *Worker) disks(ctx context.Context, s workers.Step) ([]Disk, error) {
	need, err := parseDisks(s.Params["disks"])
	if err != nil {
		return nil, workers.Permanent(err)
	}
	if w.Disks == nil && len(need) > 0 {
		return nil, workers.Permanent(errNoDisks)
	}
	var out []Disk
	for _, d := range need {
		path, err := w.Disks.Ready(ctx, d.volume, d.array, d.bytes)
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", d.slot, err)
		}
		out = append(out, Disk{Slot: d.slot, Path: path})
	}
	return out, nil
}

// backendRoot is where Xen keeps what a domain's disks are made of: below dom0, one directory for each disk.
const backendRoot = "/local/domain/0/backend/vbd/"

// checkAttached compares the devices that the kernel serves to a domain with those of the volumes. Device numbers are given again: one that a
// device had when Xen was told of it could be another's by now. A device that is open keeps its number.
func (w *Worker) checkAttached(ctx context.Context, domid int, s workers.Step) error {
	need, err := parseDisks(s.Params["disks"])
	if err != nil {
		return workers.Permanent(err)
	}
	if w.Disks == nil && len(need) > 0 {
		return workers.Permanent(errNoDisks)
	}
	have, err := w.backends(ctx, domid)
	if err != nil {
		return err
	}
	if err := w.seedAttached(ctx, s, have); err != nil {
		return err
	}
	if len(have) != len(need) {
		return fmt.Errorf("it has %d disks, want %d: %w", len(have), len(need), errAttached)
	}
	for _, d := range need {
		number, open, err := w.Disks.Device(ctx, d.volume)
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.slot, err)
		}
		if got := have[d.slot]; got != number || !open {
			return fmt.Errorf("disk %s is device %q, want %q (open: %t): %w", d.slot, got, number, open, errAttached)
		}
	}
	return nil
}

// backends gives the device number of each disk of a domain, by its slot.
func (w *Worker) backends(ctx context.Context, domid int) (map[string]string, error) {
	dir := backendRoot + strconv.Itoa(domid)
	ids, err := w.Store.Children(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("list disks of domain %d: %w", domid, err)
	}
	out := map[string]string{}
	for _, id := range ids {
		slot, err := w.Store.Read(ctx, dir+"/"+id+"/dev")
		if err != nil {
			return nil, fmt.Errorf("read disk %s of domain %d: %w", id, domid, err)
		}
		device, err := w.Store.Read(ctx, dir+"/"+id+"/physical-device")
		if err != nil {
			return nil, fmt.Errorf("read disk %s of domain %d: %w", id, domid, err)
		}
		if out[slot], err = decimal(device); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// decimal turns a device number as Xen's backends have it, fd:4, into 253:4.
func decimal(device string) (string, error) {
	major, minor, _ := strings.Cut(device, ":")
	a, err1 := strconv.ParseUint(major, 16, 32)
	b, err2 := strconv.ParseUint(minor, 16, 32)
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("read device number %q: %w", device, err)
	}
	return fmt.Sprintf("%d:%d", a, b), nil
}
