package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/workers/boot"
)

// usage says what the machine's processors did so far, in milliseconds.
type usage struct {
	UptimeMS int64 `json:"uptime_ms"` // since the machine's boot
	AgentMS  int64 `json:"agent_ms"`  // CPU time of this process, since its start
	ToolsMS  int64 `json:"tools_ms"`  // CPU time of the programs that it ran: xl
	Dom0MS   int64 `json:"dom0_ms"`   // CPU time of the whole control domain; 0 on a modelled host
	GuestsMS int64 `json:"guests_ms"` // CPU time of the domains that are there now
	PCPUs    int   `json:"pcpus"`
}

// usage measures. Times of domains come from xl list, to a tenth of a second; what that call takes itself is not counted.
func (a *agent) usage(ctx context.Context) (*usage, error) {
	u := &usage{}
	if a.capacity != nil {
		u.PCPUs = a.capacity.PCPUs
	}
	var self, tools unix.Rusage
	var up unix.Timespec
	for _, err := range []error{
		unix.Getrusage(unix.RUSAGE_SELF, &self), unix.Getrusage(unix.RUSAGE_CHILDREN, &tools), unix.ClockGettime(unix.CLOCK_BOOTTIME, &up),
	} {
		if err != nil {
			return nil, fmt.Errorf("read CPU times: %w", err)
		}
	}
	u.UptimeMS = up.Nano() / int64(time.Millisecond)
	a.asking.Lock()
	defer a.asking.Unlock()
	u.AgentMS, u.ToolsMS = cpuMS(self), cpuMS(tools)-a.askedMS
	if a.opt.runner != "xl" {
		return u, nil
	}
	list := exec.CommandContext(ctx, boot.XenBin+"/xl", "list")
	out, err := list.Output()
	if err == nil {
		u.Dom0MS, u.GuestsMS, err = domainTimes(string(out))
	}
	if err != nil {
		return nil, fmt.Errorf("read CPU times of domains: %w", err)
	}
	a.askedMS += (list.ProcessState.UserTime() + list.ProcessState.SystemTime()).Milliseconds()
	u.Dom0MS -= a.askedMS
	return u, nil
}

func cpuMS(r unix.Rusage) int64 { return (r.Utime.Nano() + r.Stime.Nano()) / int64(time.Millisecond) }

// domainTimes adds up the last column of xl list: "Name ID Mem VCPUs State Time(s)".
func domainTimes(list string) (dom0, guests int64, err error) {
	for i, line := range strings.Split(strings.TrimSpace(list), "\n") {
		f := strings.Fields(line)
		if i == 0 {
			continue
		}
		if len(f) < 6 {
			return 0, 0, fmt.Errorf("line %.120q", line)
		}
		seconds, err := strconv.ParseFloat(f[len(f)-1], 64)
		if err != nil {
			return 0, 0, fmt.Errorf("line %.120q: %w", line, err)
		}
		if f[len(f)-5] == "0" {
			dom0 += int64(seconds * 1000)
		} else {
			guests += int64(seconds * 1000)
		}
	}
	return dom0, guests, nil
}
