package initiator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// LUN is a unit that a target gives us, as a disk of this machine. The disk's name may change with each login; NAA does not.
type LUN struct {
	NAA    string // as events.NAA gives it: 32 hex digits, without "naa."
	Number uint64 // of the unit at the target
	Dev    string // sda
	DevNo  string // 8:0
	Bytes  int64  // size; as of the last Rescan
	State  string // running, offline, blocked, transport-offline …: the SCSI device's
	Target Target
}

// nexus is the place of a SCSI device: host:channel:target:unit.
var nexus = regexp.MustCompile(`^(\d+):(\d+):(\d+):(\d+)$`)

// LUNs lists the disks of all sessions, by NAA and then device. It reads sysfs only, and never waits. A unit that has no NAA identifier or no
// disk (yet) is none.
func (i *Initiator) LUNs(ctx context.Context) ([]LUN, error) {
	sessions, err := i.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	of := map[int]Target{}
	for _, s := range sessions {
		of[s.Host] = s.Target
	}
	disks, err := i.list("sys/block")
	if err != nil {
		return nil, err
	}
	var out []LUN
	for _, d := range disks {
		if !strings.HasPrefix(d, "sd") {
			continue
		}
		l, host, ok := i.lun(d)
		if t, ours := of[host]; ok && ours {
			l.Target = t
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b LUN) int { return strings.Compare(a.NAA+" "+a.Dev, b.NAA+" "+b.Dev) })
	return out, nil
}

// lun reads one disk, and the number of its SCSI host.
func (i *Initiator) lun(disk string) (LUN, int, bool) {
	device, err := os.Readlink(i.path("sys/block", disk, "device"))
	if err != nil {
		return LUN{}, 0, false
	}
	place := nexus.FindStringSubmatch(filepath.Base(device))
	if place == nil {
		return LUN{}, 0, false
	}
	host, err := strconv.Atoi(place[1])
	if err != nil {
		return LUN{}, 0, false
	}
	number, err := strconv.ParseUint(place[4], 10, 64)
	if err != nil {
		return LUN{}, 0, false
	}
	naa, ok := strings.CutPrefix(i.text("sys/block", disk, "device/wwid"), "naa.")
	sectors, err := strconv.ParseInt(i.text("sys/block", disk, "size"), 10, 64)
	if err != nil || !ok || i.text("sys/block", disk, "device/type") != "0" {
		return LUN{}, 0, false
	}
	return LUN{NAA: naa, Number: number, Dev: disk, DevNo: i.text("sys/block", disk, "dev"), Bytes: sectors * 512,
		State: i.text("sys/block", disk, "device/state")}, host, true
}

// units lists the SCSI devices of a host, by place.
func (i *Initiator) units(host int) ([]string, error) {
	all, err := i.list("sys/class/scsi_device")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(n string) bool {
		m := nexus.FindStringSubmatch(n)
		return m == nil || m[1] != strconv.Itoa(host)
	}), nil
}

func (i *Initiator) unit(place string, attribute ...string) string {
	return i.path(append([]string{"sys/class/scsi_device", place, "device"}, attribute...)...)
}

// disk names the disk of a SCSI device; "" if it has none (yet).
func (i *Initiator) disk(place string) string {
	entries, err := os.ReadDir(i.unit(place, "block"))
	if err != nil || len(entries) == 0 {
		return ""
	}
	return entries[0].Name()
}

// looked makes sure that the units of the sessions with a target were looked for and have their disks. Units are looked for in a fresh session,
// and where there are none: an earlier call may have been cut off before it looked.
func (i *Initiator) looked(ctx context.Context, t Target, fresh bool) error {
	sessions, err := i.with(t)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		units, err := i.units(s.Host)
		if err != nil {
			return err
		}
		if fresh || len(units) == 0 {
			err = i.scan(ctx, s.Host)
		} else {
			err = i.settle(ctx, s.Host)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until each unit of a host that is a disk has one, and sets the time limit of its commands. The kernel makes disks in the
// background after a scan.
func (i *Initiator) settle(ctx context.Context, host int) error {
	wait, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	var waiting string
	err := until(wait, func() (bool, error) {
		units, err := i.units(host)
		waiting = ""
		for _, u := range units {
			if i.text("sys/class/scsi_device", u, "device/type") == "0" && i.disk(u) == "" {
				waiting = u
			}
		}
		return waiting == "", err
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		i.log().Warn("a unit has no disk", "unit", waiting)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("wait for the disks of host %d: %w", host, err)
	}
	return i.limit(host)
}

// limit gives the commands of a host's units the time that the transport needs to notice a dead target.
func (i *Initiator) limit(host int) error {
	units, err := i.units(host)
	if err != nil {
		return err
	}
	want := strconv.Itoa(deviceTimeout)
	for _, u := range units {
		if i.text("sys/class/scsi_device", u, "device/timeout") == want {
			continue
		}
		if err := i.put(i.unit(u, "timeout"), want); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// put writes to a file of sysfs that is there.
func (i *Initiator) put(path, value string) error {
	write := i.edges.put
	if write == nil {
		write = writeFile
	}
	if err := write(path, value); err != nil {
		return fmt.Errorf("write %q: %w", value, err) // the path is in what the system says
	}
	return nil
}

func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
