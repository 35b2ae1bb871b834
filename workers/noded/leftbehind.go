package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cloudengine/workers/host"
)

// leftBehind lists the programs that have the mark open and that no agent waits for: calls of xl whose agent was killed. Device models
// are none of them.
func leftBehind(mark string) ([]int, error) {
	mark, err := filepath.Abs(mark)
	if err != nil {
		return nil, fmt.Errorf("find mark: %w", err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err == nil && holds(pid, mark) && !host.IsDeviceModel(pid) && !ofAnAgent(pid) {
			out = append(out, pid)
		}
	}
	return out, nil
}

// endLeftBehind kills what was left behind and hangs. A living agent ends its own. It returns how many it killed.
func endLeftBehind(mark string) (killed int, err error) {
	left, err := leftBehind(mark)
	if err != nil {
		return 0, err
	}
	if mark, err = filepath.Abs(mark); err != nil {
		return 0, fmt.Errorf("find mark: %w", err)
	}
	for _, pid := range left {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		if holds(pid, mark) && !host.IsDeviceModel(pid) { // still, so the number is not another program's by now
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err == nil {
				killed++
			}
		}
		unix.Close(fd)
	}
	return killed, nil
}

// holds says whether a process has a file open.
func holds(pid int, path string) bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return false
	}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && to == path {
			return true
		}
	}
	return false
}

// ofAnAgent says whether a process, or one that it descends from, is this program. Under another name (ce-hotplug) it is not the agent.
func ofAnAgent(pid int) bool {
	for range 64 {
		if pid <= 1 {
			return false
		}
		if identity(strconv.Itoa(pid)) == identity("self") {
			return true
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		// proc(5): pid (name) state ppid; the name may hold anything.
		rest := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		if len(rest) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(rest[1]); err != nil {
			return false
		}
	}
	return false
}

// identity is a process's program and name; empty for one that has ended or is not ours to look at.
func identity(pid string) string {
	exe, err := os.Readlink("/proc/" + pid + "/exe")
	if err != nil {
		return ""
	}
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return ""
	}
	return exe + " " + string(name)
}
