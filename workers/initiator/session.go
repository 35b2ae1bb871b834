package initiator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cloudengine/events"
	"cloudengine/workers/fabric"
	"cloudengine/workers/sysfs"
)

// Session is a session that the kernel has.
type Session struct {
	Target Target // Machine and Address are empty if this is no session of ours, or, for SRP, if it is not known any more who was meant
	ID     string // the target's IQN, or its id_ext in hex
	Host   int    // number of the SCSI host: all its units are the target's. Given again to a later session
	State  string // as the kernel says: LOGGED_IN, FAILED, FREE; running, blocked, fail-fast, lost
	Live   bool   // commands are sent and answered, as far as the kernel knows
}

var (
	portName    = regexp.MustCompile(`^port-(\d+):\d+$`)
	hostName    = regexp.MustCompile(`^host(\d+)$`)
	sessionName = regexp.MustCompile(`^session(\d+)$`)
)

// recordDir keeps, in this boot, whom each SRP session was made with: sysfs has neither the address nor the machine.
const recordDir = "run/cloudengine/initiator"

// Sessions lists the sessions of both transports, by host. It reads sysfs only, and never waits.
func (i *Initiator) Sessions(context.Context) ([]Session, error) {
	srp, err := i.srpSessions()
	if err != nil {
		return nil, err
	}
	iscsi, err := i.iscsiSessions()
	if err != nil {
		return nil, err
	}
	all := append(srp, iscsi...)
	slices.SortFunc(all, func(a, b Session) int { return a.Host - b.Host })
	return all, nil
}

// list gives the names in a directory of sysfs; none if its driver is not loaded.
func (i *Initiator) list(parts ...string) ([]string, error) {
	dir := i.path(parts...)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, nil
}

// text reads a file of sysfs. What is gone meanwhile, or cannot be read, is empty.
func (i *Initiator) text(parts ...string) string {
	text, err := sysfs.Read(i.path(parts...))
	if err != nil {
		return ""
	}
	return text
}

func number(re *regexp.Regexp, name string) (int, bool) {
	m := re.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

func (i *Initiator) srpSessions() ([]Session, error) {
	ports, err := i.list("sys/class/srp_remote_ports")
	if err != nil {
		return nil, err
	}
	var out []Session
	for _, p := range ports {
		host, ok := number(portName, p)
		if !ok {
			continue
		}
		id, err := strconv.ParseUint(strings.TrimPrefix(i.text("sys/class/scsi_host", "host"+strconv.Itoa(host), "id_ext"), "0x"), 16, 64)
		if err != nil {
			continue // an SRP target's own port, or gone
		}
		s := Session{ID: fmt.Sprintf("%016x", id), Host: host, State: i.text("sys/class/srp_remote_ports", p, "state")}
		s.Live = s.State == "running"
		s.Target = i.recorded(s.ID)
		out = append(out, s)
	}
	return out, nil
}

// recorded says whom an SRP session was made with.
func (i *Initiator) recorded(id string) Target {
	t := Target{Transport: fabric.SRP}
	var read Target
	body, err := sysfs.ReadFile(i.path(recordDir, id)) // short
	if err == nil && json.Unmarshal(body, &read) == nil && events.TargetSRP(read.Machine) == id {
		t = read
	}
	return t
}

// record writes down whom an SRP session is made with.
func (i *Initiator) record(t Target) error {
	body, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("write down the target: %w", err)
	}
	if err := os.MkdirAll(i.path(recordDir), 0o700); err != nil {
		return fmt.Errorf("write down the target: %w", err)
	}
	if err := os.WriteFile(i.path(recordDir, events.TargetSRP(t.Machine)), body, 0o600); err != nil {
		return fmt.Errorf("write down the target: %w", err)
	}
	return nil
}

func (i *Initiator) iscsiSessions() ([]Session, error) {
	names, err := i.list("sys/class/iscsi_session")
	if err != nil {
		return nil, err
	}
	var out []Session
	for _, n := range names {
		sid, ok := number(sessionName, n)
		if !ok {
			continue
		}
		device, err := filepath.EvalSymlinks(i.path("sys/class/iscsi_session", n, "device"))
		if err != nil {
			continue // gone
		}
		host, ok := number(hostName, filepath.Base(filepath.Dir(device)))
		if !ok {
			continue
		}
		s := Session{ID: i.text("sys/class/iscsi_session", n, "targetname"), Host: host, State: i.text("sys/class/iscsi_session", n, "state")}
		s.Live = s.State == "LOGGED_IN"
		s.Target = Target{Transport: fabric.ISCSI, Machine: machineOf(s.ID)}
		if s.Target.Machine != "" {
			s.Target.Address = i.text("sys/class/iscsi_connection", "connection"+strconv.Itoa(sid)+":0", "persistent_address")
		}
		out = append(out, s)
	}
	return out, nil
}

// machineOf reads the machine from a target's name; "" if it is none of ours.
func machineOf(iqn string) events.MachineID {
	prefix, suffix, _ := strings.Cut(events.TargetIQN("\x00"), "\x00")
	m, ok := strings.CutPrefix(iqn, prefix)
	m, ours := strings.CutSuffix(m, suffix)
	if !ok || !ours {
		return ""
	}
	return events.MachineID(m)
}

// with lists the sessions with a target's machine over its transport.
func (i *Initiator) with(t Target) ([]Session, error) {
	var all, out []Session
	var err error
	id := events.TargetIQN(t.Machine)
	if t.Transport == fabric.SRP {
		id = events.TargetSRP(t.Machine)
		all, err = i.srpSessions()
	} else {
		all, err = i.iscsiSessions()
	}
	for _, s := range all {
		if s.ID == id {
			out = append(out, s)
		}
	}
	return out, err
}
