package path

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cloudengine/events/desired"
	"cloudengine/workers/dm"
)

// Types of device-mapper targets.
const (
	typeLinear    = "linear"
	typeMultipath = "multipath"
)

// selector chooses among the paths of a group. Each path has a group of its own, so there is nothing to choose.
const selector = "service-time"

var errTable = errors.New("not a table of ours")

// multipathTable is the table of a map (Documentation/admin-guide/device-mapper, drivers/md/dm-mpath.c): I/O waits while no path is
// valid, the kernel's ALUA handler is asked before a group is used, and each path is a group, so that I/O never goes two ways at once.
func multipathTable(bytes int64, devNos []string) []Line {
	b := &strings.Builder{}
	fmt.Fprintf(b, "3 queue_if_no_path pg_init_retries 50 1 alua %d 1", len(devNos))
	for _, d := range devNos {
		fmt.Fprintf(b, " %s 0 1 2 %s 1 1", selector, d)
	}
	return []Line{{Length: uint64(bytes / dm.SectorSize), Type: typeMultipath, Params: b.String()}}
}

// parsePaths reads what the kernel says of a map's paths (DM_TABLE_STATUS, multipath_status in drivers/md/dm-mpath.c):
// <n> features…, <n> handler…, groups, the current group, then for each: state, <n> selector…, paths, values of a path, and for each path
// its device, A or F, how often it failed, values.
func parsePaths(status string) ([]Path, error) {
	r := words{rest: strings.Fields(status)}
	r.skip(r.number())
	r.skip(r.number())
	groups := r.number()
	r.skip(1)
	var out []Path
	for range groups {
		r.skip(1)
		r.skip(r.number())
		paths, values := r.number(), r.number()
		for range paths {
			p := Path{DevNo: r.next()}
			p.Valid = r.next() == "A"
			r.skip(1 + values)
			out = append(out, p)
		}
		if r.bad {
			break
		}
	}
	if r.bad {
		return nil, fmt.Errorf("read status of a map %.200q: %w", status, errTable)
	}
	return out, nil
}

// words are read one after the other; bad once there were too few, or one was no number.
type words struct {
	rest []string
	bad  bool
}

func (w *words) next() string {
	if len(w.rest) == 0 {
		w.bad = true
		return ""
	}
	s := w.rest[0]
	w.rest = w.rest[1:]
	return s
}

func (w *words) skip(n int) {
	if n > len(w.rest) {
		w.bad = true
		n = len(w.rest)
	}
	w.rest = w.rest[n:]
}

func (w *words) number() int {
	n, err := strconv.ParseUint(w.next(), 10, 10)
	if err != nil {
		w.bad = true
		return 0
	}
	return int(n)
}

// over gives the device that a linear line lies on; empty for every other line.
func over(l Line) string {
	devNo, _, _ := linear(l)
	return devNo
}

// linear reads the parameters of a linear line: device and first sector.
func linear(l Line) (devNo string, from uint64, ok bool) {
	dev, start, found := strings.Cut(l.Params, " ")
	from, err := strconv.ParseUint(start, 10, 63)
	if l.Type != typeLinear || !found || err != nil {
		return "", 0, false
	}
	return dev, from, true
}

// volumeTable gives the table of a disk over the map with a device number, and how many bytes of the map it needs.
func volumeTable(d desired.Disk, devNo string) (table []Line, needs int64, err error) {
	if d.ExtentMiB < 1 || d.StartMiB < 0 || len(d.Segments) == 0 {
		return nil, 0, fmt.Errorf("disk %s of volume %s: extents of %d MiB from %d MiB, %d segments: %w",
			d.Slot, d.Volume, d.ExtentMiB, d.StartMiB, len(d.Segments), errTable)
	}
	extent, first := uint64(d.ExtentMiB)*sectorsInMiB, uint64(d.StartMiB)*sectorsInMiB
	var at, end uint64
	for _, s := range d.Segments {
		if s.Start < 0 || s.Count < 1 || s.Start > maxExtents || s.Count > maxExtents {
			return nil, 0, fmt.Errorf("disk %s of volume %s: segment of %d extents from %d: %w", d.Slot, d.Volume, s.Count, s.Start, errTable)
		}
		from, n := first+uint64(s.Start)*extent, uint64(s.Count)*extent
		end = max(end, from+n)
		if k := len(table) - 1; k >= 0 && endsAt(table[k], devNo, from) {
			table[k].Length += n
		} else {
			table = append(table, dm.Linear(at, n, devNo, from))
		}
		at += n
	}
	return table, int64(end) * dm.SectorSize, nil
}

// maxExtents bounds a segment, so that no arithmetic overflows.
const maxExtents = 1 << 32

// endsAt says whether a linear line ends where a sector of a device begins.
func endsAt(l Line, devNo string, sector uint64) bool {
	d, from, ok := linear(l)
	return ok && d == devNo && from+l.Length == sector
}

// diskBytes is the size of a disk.
func diskBytes(d desired.Disk) int64 {
	var n int64
	for _, s := range d.Segments {
		n += int64(s.Count)
	}
	return n * int64(d.ExtentMiB) << 20
}

// grows says whether want is have with something behind it: what have maps, want maps to the same sectors.
func grows(have, want []Line) bool {
	if len(have) == 0 {
		return true
	}
	k := len(have) - 1
	if len(want) < len(have) || !slices.Equal(have[:k], want[:k]) {
		return false
	}
	h, w := have[k], want[k]
	return h.Type == w.Type && h.Params == w.Params && h.Start == w.Start && h.Length <= w.Length
}

// printTable writes a table as a step's parameter: its lines, each as dmsetup(8) writes it, joined by semicolons.
func printTable(table []Line) string {
	lines := make([]string, len(table))
	for i, l := range table {
		lines[i] = fmt.Sprintf("%d %d %s %s", l.Start, l.Length, l.Type, l.Params)
	}
	return strings.Join(lines, ";")
}

// parseTable reads what printTable wrote.
func parseTable(text string) ([]Line, error) {
	var table []Line
	for line := range strings.SplitSeq(text, ";") {
		f := strings.SplitN(line, " ", 4)
		if len(f) != 4 {
			return nil, fmt.Errorf("read table %.200q: %w", text, errTable)
		}
		start, err1 := strconv.ParseUint(f[0], 10, 63)
		length, err2 := strconv.ParseUint(f[1], 10, 63)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("read table %.200q: %w", text, err)
		}
		table = append(table, Line{Start: start, Length: length, Type: f[2], Params: f[3]})
	}
	return table, nil
}
