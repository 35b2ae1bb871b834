// Package nic says what a machine is made of: its network interfaces by ethtool, its processors, memory and serial number.
//
// It reads and changes nothing. What cannot be read is left empty: an inventory is for people, nothing is decided by it alone.
package nic

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"cloudengine/events"
)

// Inventory reads what the machine is made of. Below a hypervisor, CPUs and MemoryMiB are the control domain's.
func Inventory() (events.Inventory, error) {
	nics, err := List("/sys/class/net")
	inv := events.Inventory{
		Serial:   readText("/sys/class/dmi/id/product_serial", 64),
		Product:  strings.TrimSpace(readText("/sys/class/dmi/id/sys_vendor", 60) + " " + readText("/sys/class/dmi/id/product_name", 60)),
		CPUModel: cpuModel("/proc/cpuinfo"),
		CPUs:     runtime.NumCPU(),
		NICs:     nics,
		Kernel:   kernel(),
	}
	inv.MemoryMiB = memoryMiB("/proc/meminfo")
	return inv, err
}

// maxNICs bounds the list.
const maxNICs = 64

// List gives the interfaces that have a device behind them, by name.
func List(sysfs string) ([]events.NIC, error) {
	devices, err := filepath.Glob(filepath.Join(sysfs, "*", "device"))
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("open ethtool: %w", err)
	}
	defer tool.Close()
	sort.Strings(devices)
	var out []events.NIC
	for _, d := range devices[:min(len(devices), maxNICs)] {
		dir := filepath.Dir(d)
		n := events.NIC{Name: filepath.Base(dir), MAC: readText(filepath.Join(dir, "address"), 17)}
		if driver, err := tool.DriverName(n.Name); err == nil {
			n.Driver = driver
		}
		if up, err := tool.LinkState(n.Name); err == nil {
			n.Link = up == 1
		}
		if s, err := tool.GetLinkSettings(n.Name); err == nil && s.Speed != 0 && s.Speed < 1<<31 {
			n.SpeedMbps = int(s.Speed) // SPEED_UNKNOWN is 2³²−1
		}
		out = append(out, n)
	}
	return out, nil
}

func readText(path string, limit int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return clean(string(b), limit)
}

// clean keeps printable ASCII, without space at the ends, of at most limit bytes.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s[:min(len(s), limit)])
}

func cpuModel(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
			return clean(v, 128)
		}
	}
	return ""
}

// memoryMiB reads the first line of meminfo: "MemTotal: n kB".
func memoryMiB(path string) int {
	b, err := os.ReadFile(path)
	f := strings.Fields(string(b))
	if err != nil || len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n >> 10
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return clean(unix.ByteSliceToString(u.Release[:]), 64)
}
