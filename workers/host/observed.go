package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/workers"
)

// Domain is one domain as the toolstack lists it.
type Domain struct {
	DomID          int
	Name           string // "(null)" while it is made or unmade
	UUID           string
	State          string // events.DomainRunning …
	ShutdownReason string // poweroff, reboot, suspend, crash, watchdog, soft_reset; empty while it has not shut down
	Ran            bool   // it used at least 50 ms of CPU time
	MemoryMiB      int
	VCPUs          int // online
	Weight         int // of the credit scheduler; 0 = not known
}

// Observed is what was seen of one host at one time. Nothing is missing in it.
type Observed struct {
	Boot     string
	Now      time.Time
	Domains  []Domain                // by DomID; without dom0
	Stamps   []Stamp                 // by DomID; also those whose domain is gone
	Blobs    map[string]bool         // digests of the files that are here
	Answered map[workers.EndKey]bool // ends that the control plane knows
	Models   []int                   // domids that have a device model; looked at before the domains
	Seeds    []SeedDisk              // by name; looked at before the domains

	Limits map[events.VolumeID]events.DiskLimits // in force; a volume that is not in it has none
}

// Info is what the hypervisor says of itself. Memory in MiB.
type Info struct {
	Version   string
	PCPUs     int
	TotalMiB  int
	FreeMiB   int
	VirtCaps  []string
	Scheduler string

	DeviceModel bool // it is there
	Dom0MiB     int  // of the control domain's memory that could still be used
}

// maxOutput bounds what is parsed of one tool's output, in bytes.
const maxOutput = 8 << 20

var errShape = errors.New("output has not the expected shape")

// rowPattern is a row of `xl list -v`: name, domid, MiB, VCPUs, state letters, seconds, UUID, shutdown reason (hex), label.
var rowPattern = regexp.MustCompile(`^(.*\S)\s+(\d+)\s+(\d+)\s+(\d+)\s+([r-][b-][p-][s-][-rscwS?][d-])\s+(\d+\.\d)\s+` +
	`([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\s+(-|[0-9a-f]+)(\s.*)?$`)

// ParseList reads `xl list -v` (Xen 4.17, tools/xl/xl_list.c). Any line that it does not understand makes the whole list an error,
// since a list with a gap must not count as complete. `xl list -l` would leave out domains whose configuration it cannot read.
func ParseList(out []byte) ([]Domain, error) {
	if len(out) > maxOutput {
		return nil, fmt.Errorf("read list of domains: %d bytes: %w", len(out), errShape)
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, maxOutput)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "Name ") || !strings.Contains(lines.Text(), "UUID") {
		return nil, fmt.Errorf("read list of domains: no heading: %w", errShape)
	}
	var all []Domain
	dom0 := false
	for lines.Scan() {
		d, err := parseRow(lines.Text())
		if err != nil {
			return nil, err
		}
		if d.DomID == 0 && !dom0 {
			dom0 = true
			continue
		}
		all = append(all, d)
	}
	if !dom0 {
		return nil, fmt.Errorf("read list of domains: dom0 is not in it: %w", errShape)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].DomID < all[j].DomID })
	for i, d := range all {
		if d.DomID == 0 || i > 0 && d.DomID == all[i-1].DomID {
			return nil, fmt.Errorf("read list of domains: domain %d twice: %w", d.DomID, errShape)
		}
	}
	return all, nil
}

func parseRow(line string) (Domain, error) {
	m := rowPattern.FindStringSubmatch(line)
	if m == nil {
		return Domain{}, fmt.Errorf("read list of domains: line %.120q: %w", line, errShape)
	}
	var n [3]int
	for i := range n {
		v, err := strconv.ParseInt(m[2+i], 10, 32)
		if err != nil {
			return Domain{}, fmt.Errorf("read list of domains: line %.120q: %w", line, err)
		}
		n[i] = int(v)
	}
	d := Domain{DomID: n[0], Name: m[1], UUID: m[7], MemoryMiB: n[1], VCPUs: n[2], Ran: m[6] != "0.0"}
	d.State, d.ShutdownReason = stateOf(m[5], m[8])
	return d, nil
}

// reasons of SHUTDOWN_… in xen/include/public/sched.h.
var reasons = []string{"poweroff", "reboot", "suspend", "crash", "watchdog", "soft_reset"}

// stateOf reads the letters rbps?d: running, blocked, paused, shut down, why, dying. A domain that has shut down is paused too.
func stateOf(letters, reason string) (state, why string) {
	shut := letters[3] == 's'
	if shut {
		why = "unknown"
		if n, err := strconv.ParseUint(reason, 16, 32); err == nil && int(n) < len(reasons) {
			why = reasons[n]
		}
	}
	switch {
	case letters[5] == 'd':
		return events.DomainDying, why
	case shut && (why == "crash" || why == "watchdog"):
		return events.DomainCrashed, why
	case shut:
		return events.DomainShutdown, why
	case letters[2] == 'p':
		return events.DomainPaused, ""
	}
	return events.DomainRunning, ""
}

// ParseWeights reads `xl sched-credit`: the weight of each domain of the pools that the credit scheduler runs. A pool's heading
// begins with "Cpupool", a row is name, domid, weight, cap.
func ParseWeights(out []byte) (map[int]int, error) {
	weights := map[int]int{}
	for line := range strings.SplitSeq(string(out), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "Cpupool" || f[0] == "Name" {
			continue
		}
		if len(f) < 4 {
			return nil, fmt.Errorf("read weights: line %.120q: %w", line, errShape)
		}
		id, err1 := strconv.ParseUint(f[len(f)-3], 10, 31)
		weight, err2 := strconv.ParseUint(f[len(f)-2], 10, 31)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("read weights: line %.120q: %w", line, errShape)
		}
		weights[int(id)] = int(weight)
	}
	return weights, nil
}

// ParseInfo reads `xl info`: "key : value" lines.
func ParseInfo(out []byte) (Info, error) {
	values := map[string]string{}
	for line := range strings.SplitSeq(string(out), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok {
			values[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	info := Info{VirtCaps: strings.Fields(values["virt_caps"]), Scheduler: values["xen_scheduler"]}
	info.Version = values["xen_major"] + "." + values["xen_minor"] + values["xen_extra"]
	for key, to := range map[string]*int{"nr_cpus": &info.PCPUs, "total_memory": &info.TotalMiB, "free_memory": &info.FreeMiB} {
		n, err := strconv.ParseUint(values[key], 10, 31)
		if err != nil {
			return Info{}, fmt.Errorf("read hypervisor info: %s is %.40q: %w", key, values[key], errShape)
		}
		*to = int(n)
	}
	if info.Version == "." {
		return Info{}, fmt.Errorf("read hypervisor info: no version: %w", errShape)
	}
	return info, nil
}

// Types gives the domain types that the hypervisor can run.
func (i Info) Types() []string {
	types := []string{}
	has := map[string]bool{}
	for _, c := range i.VirtCaps {
		has[c] = true
	}
	if has["pv"] {
		types = append(types, events.TypePV)
	}
	if has["hvm"] {
		types = append(types, events.TypePVH)
	}
	if has["hvm"] && i.DeviceModel {
		types = append(types, events.TypeHVM)
	}
	return types
}
