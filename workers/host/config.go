package host

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Config is what a domain is made from. Its zero value makes nothing.
type Config struct {
	Name      string // unique on the host, see DomainName
	UUID      string
	Type      string // events.TypePV, TypePVH or TypeHVM
	VCPUs     int
	MaxVCPUs  int // up to which vCPUs can be added while it runs; 0: VCPUs
	MemoryMiB int
	Weight    int    // of the credit scheduler; 0 = Xen's default of 256
	Kernel    string // path; of a boot loader, for a domain that boots from its disk
	Ramdisk   string // path; may be empty
	Cmdline   string
	TSCMode   string // of a PVH or HVM domain; "native" keeps Xen from intercepting the TSC
	Console   string // file that an HVM domain's serial port is appended to; empty: it has none
	Disks     []Disk
	NICs      []NIC
}

// DomainName gives the name of a VM's domain: unique, since it holds the random end of the VM's id, and safe in a file name.
func DomainName(vm events.VMID, name string) string {
	id := string(vm)
	if len(id) > 12 {
		id = id[len(id)-12:]
	}
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	return "ce-" + id + "-" + clean[:min(len(clean), 40)]
}

var errConfig = errors.New("not a configuration that can be made")

// configOf reads the parameters of a create step. path says where a blob lies.
func configOf(s workers.Step, tscMode string, path func(digest string) string) (Config, error) {
	c := Config{Name: s.Target, UUID: s.Params["vm"], Type: s.Params["type"], TSCMode: tscMode}
	for key, to := range map[string]*int{"vcpus": &c.VCPUs, "memory": &c.MemoryMiB, "weight": &c.Weight, "maxvcpus": &c.MaxVCPUs} {
		if key == "maxvcpus" && s.Params[key] == "" {
			continue
		}
		n, err := strconv.ParseUint(s.Params[key], 10, 31)
		if err != nil {
			return Config{}, fmt.Errorf("read %s %q: %w", key, s.Params[key], errConfig)
		}
		*to = int(n)
	}
	if err := c.boots(s, path); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

// BootLoaders are what a domain that boots from its disk is made with as its kernel, by type: files of the boot image. They find the guest's
// own configuration on its disks, and start what that says. An HVM domain has none: its BIOS starts what is in the first sector of its first disk.
var BootLoaders = map[string]string{
	events.TypePV:  "/usr/lib/grub-xen/grub-x86_64-xen.bin",
	events.TypePVH: "/usr/lib/grub-xen/grub-i386-xen_pvh.bin",
}

// boots reads what a domain boots: files, with a command line that says to its guest who it is; or from its disk.
func (c *Config) boots(s workers.Step, path func(digest string) string) error {
	switch s.Params["boot"] {
	case "":
	case desired.BootDisk:
		c.Kernel = BootLoaders[c.Type]
		if c.Kernel == "" && c.Type != events.TypeHVM {
			return fmt.Errorf("boot a domain of type %q from its disk: %w", c.Type, errConfig)
		}
		if !strings.Contains(" "+s.Params["disks"], " "+events.SlotPrimary+"=") {
			return fmt.Errorf("boot from disk without a disk as %s: %w", events.SlotPrimary, errConfig)
		}
		return nil
	default:
		return fmt.Errorf("boot %q: %w", s.Params["boot"], errConfig)
	}
	if !isDigest(s.Params["kernel"]) {
		return fmt.Errorf("read kernel %q: want a SHA-256: %w", s.Params["kernel"], errConfig)
	}
	c.Kernel = path(s.Params["kernel"])
	if s.Params["ramdisk"] != "" {
		c.Ramdisk = path(s.Params["ramdisk"])
	}
	c.Cmdline = strings.TrimSpace(strings.Join([]string{
		s.Params["cmdline"], "ce.vm=" + s.Params["vm"], "ce.name=" + s.Params["vmname"], "ce.epoch=" + s.Params["epoch"],
	}, " "))
	return nil
}

func (c Config) check() error {
	switch {
	case c.Type != events.TypePV && c.Type != events.TypePVH && c.Type != events.TypeHVM:
		return fmt.Errorf("type %q: %w", c.Type, errConfig)
	case c.VCPUs < 1 || c.MemoryMiB < 1 || c.Weight < 0 || c.Weight > 65535:
		return fmt.Errorf("%d vcpus, %d MiB, weight %d: %w", c.VCPUs, c.MemoryMiB, c.Weight, errConfig)
	case c.Name == "" || c.UUID == "":
		return fmt.Errorf("no name or no UUID: %w", errConfig)
	}
	texts := []string{c.Name, c.UUID, c.Kernel, c.Ramdisk, c.Cmdline, c.TSCMode, c.Console}
	slots := map[string]bool{}
	for _, d := range c.Disks {
		if err := d.check(); err != nil {
			return err
		}
		if slots[d.Slot] {
			return fmt.Errorf("two disks as %s: %w", d.Slot, errConfig)
		}
		slots[d.Slot] = true
		texts = append(texts, d.Path)
	}
	for _, n := range c.NICs {
		if err := n.check(); err != nil {
			return err
		}
		texts = append(texts, n.text())
	}
	for _, text := range texts {
		for _, r := range text {
			if r < ' ' || r > '~' {
				return fmt.Errorf("character %q: %w", r, errConfig)
			}
		}
	}
	return nil
}

// Text gives the file that `xl create` reads (xl.cfg(5)). Memory is exact, and the most that the domain can ever have; so are VCPUs,
// unless MaxVCPUs says more.
func (c Config) Text() string {
	b := &strings.Builder{}
	text := func(key, value string) { fmt.Fprintf(b, "%s = \"%s\"\n", key, quote(value)) }
	number := func(key string, value int) { fmt.Fprintf(b, "%s = %d\n", key, value) }
	text("name", c.Name)
	text("uuid", c.UUID)
	text("type", c.Type)
	number("memory", c.MemoryMiB)
	number("maxmem", c.MemoryMiB)
	number("vcpus", c.VCPUs)
	number("maxvcpus", max(c.VCPUs, c.MaxVCPUs))
	if c.Weight > 0 {
		number("cpu_weight", c.Weight)
	}
	if c.Kernel != "" {
		text("kernel", c.Kernel)
	}
	if c.Ramdisk != "" {
		text("ramdisk", c.Ramdisk)
	}
	if c.Cmdline != "" {
		text("cmdline", c.Cmdline)
	}
	if c.Type != events.TypePV && c.TSCMode != "" {
		text("tsc_mode", c.TSCMode)
	}
	if len(c.Disks) > 0 {
		b.WriteString("disk = [ ")
		for i, d := range c.Disks {
			fmt.Fprintf(b, "%s\"%s\"", strings.Repeat(", ", min(i, 1)), quote(d.text(c.Type)))
		}
		b.WriteString(" ]\n")
	}
	if len(c.NICs) > 0 {
		b.WriteString("vif = [ ")
		for i, n := range c.NICs {
			fmt.Fprintf(b, "%s\"%s\"", strings.Repeat(", ", min(i, 1)), quote(n.text()))
		}
		b.WriteString(" ]\n")
	}
	if c.Type == events.TypeHVM {
		c.machine(b)
	}
	for _, on := range []string{"on_poweroff", "on_reboot", "on_crash", "on_watchdog", "on_soft_reset"} {
		text(on, "preserve")
	}
	return b.String()
}

// quote escapes what would end or change a string in an xl file (libxlu_cfg_l.l): it knows no \" but reads \xHH.
func quote(s string) string {
	b := &strings.Builder{}
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' || c < ' ' || c > '~' {
			fmt.Fprintf(b, "\\x%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isDigest says whether s is a SHA-256 in lower-case hex.
func isDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, r := range s {
		if !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f') {
			return false
		}
	}
	return true
}
