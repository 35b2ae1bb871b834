package rack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// PowerOn starts a machine directly, as its power button would. Nothing happens if it runs. The
// control plane does the same by the machine's controller.
func (r *Rack) PowerOn(name string) error {
	return r.withMachine(name, r.powerOn)
}

// Kill takes a machine's power away and returns when it is gone. Its controller, which has its
// own supply, then says that it is off. Nothing happens if it does not run.
func (r *Rack) Kill(ctx context.Context, name string) error {
	return r.withMachine(name, func(m Machine) error { return m.qemuProcess().stop(ctx) })
}

// Reset is Kill and PowerOn in one.
func (r *Rack) Reset(ctx context.Context, name string) error {
	return r.withMachine(name, func(m Machine) error {
		if err := m.qemuProcess().stop(ctx); err != nil {
			return err
		}
		return r.powerOn(m)
	})
}

// IsOn tells whether a machine has power.
func (r *Rack) IsOn(name string) (bool, error) {
	m, err := r.Machine(name)
	if err != nil {
		return false, err
	}
	return m.qemuProcess().running()
}

// Freeze stops a machine's processors without taking its power: it is silent, and its controller
// says that it is on. Thaw lets it go on. Both say ErrOff of a machine without power.
func (r *Rack) Freeze(name string) error { return r.signal(name, unix.SIGSTOP) }

// Thaw undoes Freeze.
func (r *Rack) Thaw(name string) error { return r.signal(name, unix.SIGCONT) }

// ErrOff is returned where a machine needs power and has none.
var ErrOff = fmt.Errorf("the machine is off")

func (r *Rack) signal(name string, sig unix.Signal) error {
	return r.withMachine(name, func(m Machine) error {
		ok, err := m.qemuProcess().send(sig)
		if err == nil && !ok {
			err = ErrOff
		}
		return err
	})
}

// SerialTail returns the last lines that a machine printed on its serial port, over all its boots.
func (r *Rack) SerialTail(name string, lines int) ([]string, error) {
	m, err := r.Machine(name)
	if err != nil {
		return nil, err
	}
	return lastLines(m.SerialLog, lines)
}

// withMachine holds the machine's own lock, since its controller may act at the same time.
func (r *Rack) withMachine(name string, f func(Machine) error) error {
	m, err := r.Machine(name)
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(m.dir, "power.lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open power lock of %s: %w", name, err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock power of %s: %w", name, err)
	}
	if err := f(m); err != nil {
		return fmt.Errorf("machine %s: %w", name, err)
	}
	return nil
}

func (m Machine) qemuProcess() process {
	pid := filepath.Join(m.dir, "qemu.pid")
	return process{
		pidFile: pid,
		mark:    "\x00guest=" + m.qemuName() + "\x00",
		logFile: filepath.Join(m.dir, "qemu.log"),
		signal:  unix.SIGKILL,
	}
}

// qemuName is unique on the computer: the serial number has the rack's namespace in it.
func (m Machine) qemuName() string { return m.Serial }

func (r *Rack) powerOn(m Machine) error {
	p := m.qemuProcess()
	if on, err := p.running(); err != nil || on {
		return err
	}
	if err := r.ensureDisks(m); err != nil {
		return err
	}
	serial, err := os.OpenFile(m.SerialLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open serial log: %w", err)
	}
	fmt.Fprintf(serial, "\n--- power on %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
	if err := serial.Close(); err != nil {
		return fmt.Errorf("write serial log: %w", err)
	}
	cmd := exec.Command("qemu-system-x86_64", r.qemuArgs(m)...)
	cmd.Dir = m.dir // the serial port's socket is named from here: its whole path may be too long for a socket
	return p.launch(cmd, r.Start)
}

// CPU is the processor of emulated machines, as QEMU's -cpu wants it. SMAP,
// SMEP and LA57 off: QEMU 7.2 emulates SMAP wrongly and dom0 crashes in its entry code. RDTSCP
// off: its exit is reported wrongly to Xen when a PVH guest's clock is intercepted. AVX and what needs it
// off: on busy machines vector registers were mixed up between domains (wrong SHA-256 of right files,
// symbols that ld.so does not find, TLS records that cannot be read). Without it that became rarer and
// did not end: the rack's Xen is also told to switch these registers eagerly.
const CPU = "max,-smap,-smep,-la57,-rdtscp,-avx,-avx2,-fma,-f16c,-vaes,-vpclmulqdq"

// qemuArgs: software emulation only, since a KVM that is there is not always one that works. No VGA:
// graphics=off makes the BIOS talk on the serial port. A failed network boot is tried again.
func (r *Rack) qemuArgs(m Machine) []string {
	args := []string{
		"-name", "guest=" + m.qemuName(),
		"-uuid", m.UUID,
		"-smbios", "type=1,manufacturer=CloudEngine,product=Virtual rack,serial=" + m.Serial + ",uuid=" + m.UUID,
		"-machine", "pc,graphics=off",
		"-accel", "tcg,thread=multi",
		"-cpu", CPU,
		"-smp", strconv.Itoa(r.processors(m)),
		"-m", strconv.Itoa(r.memory(m)),
		"-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
		"-rtc", "base=utc",
		"-chardev", "socket,id=com1,path=" + serialSocket + ",server=on,wait=off,logappend=on,logfile=" + escapeComma(m.SerialLog),
		"-serial", "chardev:com1",
		"-netdev", "tap,id=boot,script=no,downscript=no,ifname=" + m.tap,
		"-device", "virtio-net-pci,netdev=boot,bootindex=0,mac=" + m.MAC,
		"-boot", "strict=on,reboot-timeout=3000",
	}
	if m.sanTap != "" {
		args = append(args, "-netdev", "tap,id=san,script=no,downscript=no,ifname="+m.sanTap,
			"-device", "virtio-net-pci,netdev=san,romfile=,host_mtu="+strconv.Itoa(sanMTU)+",mac="+m.SANMAC)
	}
	if m.netTap != "" {
		args = append(args, "-netdev", "tap,id=net,script=no,downscript=no,ifname="+m.netTap, "-device", "virtio-net-pci,netdev=net,romfile=,mac="+m.NetMAC)
	}
	for i, path := range m.disks {
		id := "disk" + strconv.Itoa(i)
		args = append(args, "-drive", "if=none,format=raw,cache=none,aio=threads,id="+id+",file="+escapeComma(path),
			"-device", "virtio-blk-pci,drive="+id+",serial="+diskSerial(m, i))
	}
	return append(args, r.cfg.QEMUArgs...)
}

// diskSerial is a disk's serial number, at most 20 bytes (virtio).
func diskSerial(m Machine, i int) string {
	return fmt.Sprintf("%s-%s-%d", m.Name, m.UUID[:8], i)
}

// ensureDisks makes the files of disks that are not there.
func (r *Rack) ensureDisks(m Machine) error {
	for _, path := range m.disks {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return fmt.Errorf("make disk: %w", err)
		}
		err = f.Truncate(int64(r.cfg.DiskMiB) << 20)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("make disk: %w", err)
		}
	}
	return nil
}

func (r *Rack) memory(m Machine) int {
	if m.Role == RoleHost {
		return r.cfg.MemoryMiB
	}
	return r.cfg.StorageMiB
}

func (r *Rack) processors(m Machine) int {
	if m.Role == RoleHost {
		return r.cfg.CPUs
	}
	return 1
}

// escapeComma writes a value of a QEMU option list, where a comma is written twice.
func escapeComma(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] == ',' {
			out = append(out, ',')
		}
		out = append(out, s[i])
	}
	return string(out)
}
