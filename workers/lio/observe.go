package lio

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// System is the target of one machine. It is safe for concurrent use.
type System struct {
	Files   Files
	Prepare func(ctx context.Context, transport string) error // loads what a transport needs, and without one what backstores need; may be nil

	mu       sync.Mutex       // held while anything is changed or all is read, but not while commands run out
	watch    sync.Mutex       // guards draining
	draining map[string]Grant // by the path of the LUN object, whose directory is locked as long as commands run out
}

var errForeign = errors.New("there is something in it that this program did not make")

// Observe reads what configfs has of ours, and nothing else. It is an error unless all of it could be read and understood: what is not
// known to be shut out is not said to be.
func (s *System) Observe(ctx context.Context) (Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c Config
	var err error
	if c.Backstores, err = s.backstores(); err != nil {
		return Config{}, fmt.Errorf("read exported devices: %w", err)
	}
	for _, transport := range []string{ISCSI, SRP} {
		names, _, err := s.Files.List(path.Dir(wwnDir(transport, "x")))
		if err != nil && !missing(err) {
			return Config{}, fmt.Errorf("list ports: %w", err)
		}
		slices.Sort(names)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return Config{}, err
			}
			p, ours, err := s.port(transport, name)
			if err != nil {
				return Config{}, fmt.Errorf("read port %s: %w", name, err)
			}
			if ours {
				c.Ports = append(c.Ports, p)
			}
		}
	}
	return c, nil
}

// ours leaves the names that begin with our prefix, without it, sorted.
func ours(names []string) []string {
	var out []string
	for _, n := range names {
		if rest, ok := strings.CutPrefix(n, prefix); ok {
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out
}

func (s *System) backstores() ([]Backstore, error) {
	dirs, _, err := s.Files.List(hba)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Backstore
	for _, name := range ours(dirs) {
		b, err := s.backstore(name)
		if missing(err) {
			continue // it went while it was read
		}
		if err != nil {
			return nil, fmt.Errorf("read backstore %s: %w", name, err)
		}
		out = append(out, b)
	}
	return out, nil
}

func (s *System) backstore(name string) (Backstore, error) {
	dir := backstoreDir(name)
	enabled, err := s.Files.Read(dir + "/enable")
	if err != nil {
		return Backstore{}, err
	}
	info, err := s.Files.Read(dir + "/info")
	if err != nil {
		return Backstore{}, err
	}
	serial, err := s.Files.Read(dir + "/wwn/vpd_unit_serial")
	if err != nil {
		return Backstore{}, err
	}
	_, serial, _ = strings.Cut(serial, ": ")
	b := Backstore{Name: name, UnitSerial: strings.TrimSpace(serial), Ready: enabled == "1"}
	b.Device, b.DevNo = parseInfo(info)
	if b.Ready && b.Device == "" {
		return Backstore{}, fmt.Errorf("read its device: %q is not understood", info)
	}
	groups, _, err := s.Files.List(dir + "/alua")
	if err != nil {
		return Backstore{}, err
	}
	for _, g := range ours(groups) {
		x, err := s.group(dir+"/alua/"+prefix+g, g)
		if err != nil {
			return Backstore{}, err
		}
		b.Groups = append(b.Groups, x)
	}
	return b, nil
}

// parseInfo reads "… UDEV PATH: /dev/vda  readonly: 0\n Major: 254 Minor: 0  CLAIMED: IBLOCK" (target_core_iblock.c).
func parseInfo(info string) (device, devNo string) {
	f := strings.Fields(info)
	var major, minor string
	for i := 0; i+1 < len(f); i++ {
		switch f[i] {
		case "PATH:":
			device = f[i+1]
		case "Major:":
			major = f[i+1]
		case "Minor:":
			minor = f[i+1]
		}
	}
	if major == "" || minor == "" || major == "0" {
		return device, ""
	}
	return device, major + ":" + minor
}

func (s *System) group(dir, name string) (Group, error) {
	id, err := s.Files.Read(dir + "/tg_pt_gp_id")
	if err != nil {
		return Group{}, err
	}
	state, err := s.Files.Read(dir + "/alua_access_state")
	if err != nil {
		return Group{}, err
	}
	g := Group{Name: name, State: "state " + state}
	for k, v := range accessStates {
		if v == state {
			g.State = k
		}
	}
	if id != "" { // it has none before it is given one
		if g.ID, err = strconv.Atoi(id); err != nil {
			return Group{}, fmt.Errorf("read the id of group %s: %w", name, err)
		}
	}
	return g, nil
}

func (s *System) port(transport, name string) (p Port, ours bool, err error) {
	if transport == ISCSI && !strings.HasPrefix(name, iqnPrefix) {
		return p, false, nil
	}
	dir := groupDir(transport, name)
	enabled, err := s.Files.Read(dir + "/enable")
	if missing(err) {
		return Port{Transport: transport, Name: name}, transport == ISCSI, nil // its portal group was not made yet
	}
	if err != nil {
		return p, false, err
	}
	p = Port{Transport: transport, Name: name, Ready: enabled == "1"}
	if transport == ISCSI {
		if err := s.listens(dir, &p); err != nil {
			return p, false, err
		}
	}
	p.Grants, err = s.grants(dir)
	return p, true, err
}

func (s *System) listens(dir string, p *Port) error {
	portals, _, err := s.Files.List(dir + "/np")
	if err != nil {
		return err
	}
	slices.Sort(portals)
	for _, n := range portals {
		p.Addresses = append(p.Addresses, strings.TrimSuffix(n, ":"+iscsiPort))
	}
	for _, a := range iscsiAttributes {
		got, err := s.Files.Read(dir + "/attrib/" + a[0])
		if err != nil {
			return err
		}
		p.Ready = p.Ready && got == a[1]
	}
	return nil
}

// grants reads the LUN objects of a portal group, and which of them initiators can reach. One whose initiator cannot reach it any more is
// still listed: commands may be under way.
func (s *System) grants(dir string) ([]Grant, error) {
	mapped, err := s.mapped(dir)
	if err != nil {
		return nil, err
	}
	objects, _, err := s.Files.List(dir + "/lun")
	if err != nil {
		return nil, err
	}
	slices.Sort(objects)
	var out []Grant
	for _, lun := range objects {
		g, there, err := s.lun(dir + "/lun/" + lun)
		if err != nil {
			return nil, err
		}
		by, reached := mapped[lun]
		switch {
		case reached && (!there || by != g.Initiator || lunObject(g.Initiator, g.Backstore) != lun):
			return nil, fmt.Errorf("initiator %s is given %s: %w", by, lun, errForeign)
		case there:
			g.Ready = reached
			out = append(out, g)
		}
		delete(mapped, lun)
	}
	for lun, by := range mapped {
		return nil, fmt.Errorf("initiator %s is given %s, which is not there: %w", by, lun, errForeign)
	}
	return out, nil
}

// mapped says which initiator is given which LUN object.
func (s *System) mapped(dir string) (map[string]string, error) {
	initiators, _, err := s.Files.List(dir + "/acls")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, i := range initiators {
		numbers, _, err := s.Files.List(dir + "/acls/" + i)
		if err != nil && !missing(err) {
			return nil, err
		}
		for _, n := range numbers {
			if !strings.HasPrefix(n, "lun_") {
				continue
			}
			_, links, err := s.Files.List(path.Join(dir, "acls", i, n))
			if err != nil && !missing(err) {
				return nil, err
			}
			for _, l := range links {
				lun, err := s.Files.Readlink(path.Join(dir, "acls", i, n, l))
				if missing(err) {
					continue
				}
				if err != nil {
					return nil, err
				}
				if other, ok := out[lun]; ok && other != i {
					return nil, fmt.Errorf("%s is given to %s and %s: %w", lun, i, other, errForeign)
				}
				out[lun] = i
			}
		}
	}
	return out, nil
}

// lun reads one LUN object; one without a backstore is as good as none.
func (s *System) lun(dir string) (g Grant, there bool, err error) {
	s.watch.Lock()
	g, drains := s.draining[dir]
	s.watch.Unlock()
	if drains {
		return g, true, nil
	}
	_, links, err := s.Files.List(dir)
	if missing(err) || err == nil && len(links) == 0 {
		return g, false, nil
	}
	if err != nil {
		return g, false, err
	}
	var ok bool
	if g.Machine, g.Initiator, ok = parseLabel(links[0]); !ok || len(links) > 1 {
		return g, false, fmt.Errorf("%s: %w", dir, errForeign)
	}
	store, err := s.Files.Readlink(dir + "/" + links[0])
	if missing(err) {
		return g, false, nil
	}
	if err != nil {
		return g, false, err
	}
	if g.Backstore, ok = strings.CutPrefix(store, prefix); !ok {
		return g, false, fmt.Errorf("%s: %w", dir, errForeign)
	}
	info, err := s.Files.Read(dir + "/alua_tg_pt_gp")
	if err != nil && !missing(err) {
		return g, false, err
	}
	g.Group = parseGroup(info)
	return g, true, nil
}

// parseGroup reads "TG Port Alias: name\n…" (target_core_alua.c).
func parseGroup(info string) string {
	line, _, _ := strings.Cut(info, "\n")
	_, name, _ := strings.Cut(line, "TG Port Alias: ")
	g, _ := strings.CutPrefix(strings.TrimSpace(name), prefix)
	if g == "default_tg_pt_gp" {
		return ""
	}
	return g
}
