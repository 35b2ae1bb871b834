// Command guest is the only program of the tiny test guest: it says on its console who it is and what it was given,
// then that it still lives, and obeys the hypervisor's wish to shut down.
//
// By its name it is three programs: init; poweroff and reboot, which the kernel starts when the toolstack asks for it
// (drivers/xen/manage.c). On the kernel command line it takes ce.vm, ce.name and ce.epoch (who it is), and
// ce.after=<seconds>:<poweroff|reboot|crash|flood>, and ce.disk=<name> (xvda), which makes it write to that disk and read
// back for ever; the same words work when typed on the console, a disk's name too. ce.load=<name> makes it read that disk as
// fast as it can. ce.net=<names> makes it set its NIC up by DHCP and say which of the others it reaches; ce.attack=<addresses> makes it
// send what no guest may. It has no shell.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the time between two signs of life.
const tick = 10 * time.Second

// floodBytes is what the word flood prints: more than any console log may keep.
const floodBytes = 4 << 20

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "poweroff", "reboot":
		act(name)
		os.Exit(1)
	}
	for _, m := range []struct{ kind, dir string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			fmt.Printf("guest: mount %s: %v\n", m.dir, err)
		}
	}
	loadDrivers()
	words := commandLine(read("/proc/cmdline"))
	fmt.Print(introduction(words))
	fmt.Print(drivers("/sys"))
	go reap()
	go listen()
	if after := words["ce.after"]; after != "" {
		go actLater(after)
	}
	if name := words["ce.disk"]; name != "" {
		go awaitDisk(name, startDisk)
	}
	if name := words["ce.load"]; name != "" {
		go awaitDisk(name, load)
	}
	if peers, ok := words["ce.net"]; ok {
		go network(peers)
	}
	if victims := words["ce.attack"]; victims != "" {
		go attack(victims)
	}
	for n := 1; ; n++ {
		time.Sleep(tick)
		switchOn("/sys")
		fmt.Printf("guest: tick %d name=%s vm=%s uptime=%s vcpus=%s\n", n, words["ce.name"], words["ce.vm"], firstWord("/proc/uptime"), read("/sys/devices/system/cpu/online"))
		fmt.Print(disks("/sys"))
	}
}

// introduction says who the guest is: one line that a test can look for, key=value.
func introduction(words map[string]string) string {
	return fmt.Sprintf("guest: I am name=%s vm=%s epoch=%s uuid=%s type=%s vcpus=%d memory_kib=%s given_kib=%s kernel=%s\n",
		words["ce.name"], words["ce.vm"], words["ce.epoch"], read("/sys/hypervisor/uuid"), read("/sys/hypervisor/guest_type"),
		runtime.NumCPU(), memTotal(read("/proc/meminfo")), read("/sys/devices/system/xen_memory/xen_memory0/info/current_kb"),
		firstWord("/proc/sys/kernel/osrelease"))
}

// drivers says which devices the guest has found: those of an emulated machine by their PCI ids, and Xen's own by the names of their drivers
// and of the clock.
func drivers(sys string) string {
	var emulated, own []string
	for _, dir := range glob(sys + "/bus/pci/devices/*") {
		emulated = append(emulated, strings.TrimPrefix(read(dir+"/vendor"), "0x")+":"+strings.TrimPrefix(read(dir+"/device"), "0x"))
	}
	for _, dir := range glob(sys + "/bus/xen/drivers/*") {
		own = append(own, filepath.Base(dir))
	}
	return fmt.Sprintf("guest: drivers emulated=%s xen=%s clock=%s\n", strings.Join(emulated, ","), strings.Join(own, ","),
		read(sys+"/devices/system/clocksource/clocksource0/current_clocksource"))
}

// switchOn uses the vCPUs that the hypervisor has added: the kernel leaves that to the system.
func switchOn(sys string) {
	for _, file := range glob(sys + "/devices/system/cpu/cpu[0-9]*/online") {
		if read(file) == "0" {
			_ = os.WriteFile(file, []byte("1"), 0) // one that was taken away cannot be, and that is no news
		}
	}
}

func glob(pattern string) []string {
	found, err := filepath.Glob(pattern)
	if err != nil {
		panic(err) // the pattern is wrong
	}
	return found
}

// act ends the guest in one of the ways it can end, or floods the console.
func act(word string) {
	var err error
	switch word {
	case "poweroff":
		fmt.Println("guest: powering off")
		err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case "reboot":
		fmt.Println("guest: rebooting")
		err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case "crash":
		fmt.Println("guest: crashing")
		err = os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "flood":
		line := strings.Repeat("guest: flood ", 8) + "\n"
		for n := 0; n < floodBytes; n += len(line) {
			fmt.Print(line)
		}
	case "":
	case "xvda", "xvdb":
		go awaitDisk(word, startDisk)
	default:
		err = fmt.Errorf("unknown word")
	}
	if err != nil {
		fmt.Printf("guest: %s: %v\n", word, err)
	}
}

func actLater(after string) {
	seconds, word, _ := strings.Cut(after, ":")
	n, err := strconv.ParseUint(seconds, 10, 16)
	if err != nil {
		fmt.Printf("guest: ce.after=%s: want seconds:word\n", after)
		return
	}
	time.Sleep(time.Duration(n) * time.Second)
	act(word)
}

// listen obeys words typed on the console.
func listen() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		act(strings.TrimSpace(lines.Text()))
	}
}

// reap waits for children that the kernel leaves to init.
func reap() {
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil {
			time.Sleep(time.Second)
		}
	}
}

// commandLine splits the kernel command line into key=value words.
func commandLine(line string) map[string]string {
	words := map[string]string{}
	for _, w := range strings.Fields(line) {
		k, v, _ := strings.Cut(w, "=")
		words[k] = v
	}
	return words
}

// memTotal finds the first line of /proc/meminfo and returns its KiB.
func memTotal(meminfo string) string {
	for _, line := range strings.Split(meminfo, "\n") {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			return strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB"))
		}
	}
	return "?"
}

// read returns a file's text without its end of line, or ? if it cannot be read.
func read(path string) string {
	body, err := os.ReadFile(path)
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(body))
}

func firstWord(path string) string {
	word, _, _ := strings.Cut(read(path), " ")
	return word
}
