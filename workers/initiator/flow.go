package initiator

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// flow follows the commands of the SRP sessions that work, by the kernel's counters of each unit (scsi_device's iorequest_cnt and iodone_cnt). The
// files stay open: a look costs one system call for each, and one listing that says whether they are still the right ones. Its zero value is ready.
type flow struct {
	units []string // of all SCSI hosts, by place, when the files were opened
	hosts []*hostFlow
}

// hostFlow is one session.
type hostFlow struct {
	session Session
	state   int // of its remote port; file descriptors, -1: none
	units   []unitFlow
}

// unitFlow is one unit, with what its counters said last.
type unitFlow struct {
	sent, ended int
	last        uint64 // of ended
}

// waiting lists the sessions on which commands are under way and none has ended since the last call. Of one whose counters cannot be read
// nothing is known: it is listed too.
func (f *flow) waiting(i *Initiator) ([]Session, error) {
	units, err := i.list("sys/class/scsi_device")
	if err != nil {
		return nil, err
	}
	if f.units == nil || !slices.Equal(units, f.units) {
		if err := f.open(i, units); err != nil {
			return nil, err
		}
	}
	var out []Session
	for _, h := range f.hosts {
		state, ok := reread(h.state)
		if !ok {
			f.units = nil // the session is another one: look anew at the next call
		}
		if ok && state != "running" {
			continue
		}
		flying, moved, known := h.look()
		if !known {
			f.units = nil
		}
		if !known || flying && !moved {
			out = append(out, h.session)
		}
	}
	return out, nil
}

// look reads the counters of all units.
func (h *hostFlow) look() (flying, moved, known bool) {
	known = true
	for n := range h.units {
		u := &h.units[n]
		ended, ok1 := counter(u.ended) // first: what is sent between the two reads counts as under way
		sent, ok2 := counter(u.sent)
		known = known && ok1 && ok2
		flying = flying || sent != ended
		moved = moved || ended != u.last
		u.last = ended
	}
	return flying, moved, known
}

// open opens the files of the sessions that are there. What can only be read later is, at a later look.
func (f *flow) open(i *Initiator, units []string) error {
	f.close()
	sessions, err := i.srpSessions()
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if s.Target.Address == "" {
			continue
		}
		h := &hostFlow{session: s, state: none}
		if ports, err := i.ports(s.Host); err == nil && len(ports) == 1 {
			h.state = opened(ports[0] + "/state")
		}
		for _, u := range units {
			if strings.HasPrefix(u, strconv.Itoa(s.Host)+":") {
				h.units = append(h.units, unitFlow{sent: opened(i.unit(u, "iorequest_cnt")), ended: opened(i.unit(u, "iodone_cnt"))})
			}
		}
		f.hosts = append(f.hosts, h)
	}
	f.units = units
	if f.units == nil {
		f.units = []string{}
	}
	return nil
}

// close forgets everything.
func (f *flow) close() {
	for _, h := range f.hosts {
		for _, u := range h.units {
			closeAll(u.sent, u.ended)
		}
		closeAll(h.state)
	}
	f.units, f.hosts = nil, nil
}

const none = -1

// opened opens a file beside the runtime's poller, which has no use for it.
func opened(path string) int {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return none
	}
	return fd
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd != none {
			_ = unix.Close(fd) // it was only read
		}
	}
}

// reread reads a file of sysfs from its beginning.
func reread(fd int) (string, bool) {
	var buf [64]byte
	if fd == none {
		return "", false
	}
	n, err := unix.Pread(fd, buf[:], 0)
	return strings.TrimSpace(string(buf[:max(n, 0)])), err == nil
}

// counter reads a counter, which the kernel writes as 0x1f.
func counter(fd int) (uint64, bool) {
	text, ok := reread(fd)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	return n, err == nil
}
