package lio

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/workers"
)

// Apply does one step of a Plan. It may be done again.
func (s *System) Apply(ctx context.Context, step workers.Step) error {
	p := step.Params
	if err := checkStep(step); err != nil {
		return workers.Permanent(err)
	}
	if step.Kind == StepRevoke {
		g := Grant{Machine: events.MachineID(p["machine"]), Initiator: step.Target, Backstore: p[ParamBackstore]}
		return s.revoke(p[ParamTransport], p[ParamPort], g)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch step.Kind {
	case StepBackstore:
		return s.makeBackstore(ctx, step)
	case StepGroup:
		return s.makeGroup(p[ParamBackstore], p["group"], p["id"], p["state"])
	case StepUngroup:
		return s.remove(backstoreDir(p[ParamBackstore]) + "/alua/" + prefix + p["group"])
	case StepUnback:
		return s.dropBackstore(p[ParamBackstore])
	case StepPort:
		return s.makePort(ctx, p[ParamTransport], p[ParamPort], strings.Fields(p["addresses"]))
	case StepUnport:
		return s.dropPort(p[ParamTransport], p[ParamPort])
	case StepGrant:
		g := Grant{Machine: events.MachineID(p["machine"]), Initiator: step.Target, Backstore: p[ParamBackstore], Group: p["group"]}
		return s.grant(p[ParamTransport], p[ParamPort], p["serial"], g)
	}
	return workers.Permanent(fmt.Errorf("step %q is not known", step.Kind))
}

// checkStep makes sure that no name leads out of the directory that it is meant for.
func checkStep(step workers.Step) error {
	names := []string{step.Target}
	for _, k := range []string{ParamBackstore, ParamPort, "machine"} {
		if v, ok := step.Params[k]; ok {
			names = append(names, v)
		}
	}
	if g := step.Params["group"]; g != "" || step.Kind == StepGroup || step.Kind == StepUngroup {
		names = append(names, g)
	}
	return checkName(names...)
}

func (s *System) prepare(ctx context.Context, transport string) error {
	if s.Prepare == nil {
		return nil
	}
	return s.Prepare(ctx, transport)
}

func (s *System) remove(name string) error {
	if err := gone(s.Files.Remove(name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

func (s *System) mkdir(name string) error {
	if err := made(s.Files.Mkdir(name)); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	return nil
}

// set writes an attribute unless it has the value: some can be written once only.
func (s *System) set(name, value string) error {
	have, err := s.Files.Read(name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if have == value {
		return nil
	}
	if err := s.Files.Write(name, value); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, name, err)
	}
	return nil
}

// makeBackstore: the serial is written before it is enabled, so that one that is enabled has it.
func (s *System) makeBackstore(ctx context.Context, step workers.Step) error {
	name, device, serial := step.Params[ParamBackstore], step.Params["device"], step.Params["serial"]
	if err := s.prepare(ctx, ""); err != nil {
		return err
	}
	dir := backstoreDir(name)
	if err := s.mkdir(dir); err != nil {
		return err
	}
	have, err := s.backstore(name)
	if err != nil {
		return fmt.Errorf("read backstore %s: %w", name, err)
	}
	if !have.Ready {
		for _, w := range [][2]string{
			{"/control", "udev_path=" + device}, {"/wwn/vpd_unit_serial", serial},
			// A copy between devices by the target itself is a second way to a device. Nobody here uses it.
			{"/attrib/emulate_3pc", "0"},
			{"/enable", "1"},
		} {
			if err := s.Files.Write(dir+w[0], w[1]); err != nil {
				return fmt.Errorf("write %q to %s%s: %w", w[1], dir, w[0], err)
			}
		}
		if have, err = s.backstore(name); err != nil {
			return fmt.Errorf("read backstore %s: %w", name, err)
		}
	}
	if no := step.Params["devno"]; !have.Ready || have.Device != device || have.UnitSerial != serial || no != "" && no != have.DevNo {
		return fmt.Errorf("make backstore %s of %s: what is there is %+v", name, device, have)
	}
	return nil
}

func (s *System) dropBackstore(name string) error {
	dir := backstoreDir(name)
	groups, _, err := s.Files.List(dir + "/alua")
	if err != nil && !missing(err) {
		return fmt.Errorf("list groups of backstore %s: %w", name, err)
	}
	for _, g := range ours(groups) {
		if err := s.remove(dir + "/alua/" + prefix + g); err != nil {
			return err
		}
	}
	return s.remove(dir)
}

func (s *System) makeGroup(backstore, name, id, state string) error {
	value, ok := accessStates[state]
	if !ok {
		return workers.Permanent(fmt.Errorf("set group %s to state %q: it is not known", name, state))
	}
	dir := backstoreDir(backstore) + "/alua/" + prefix + name
	if err := s.mkdir(dir); err != nil {
		return err
	}
	if err := s.set(dir+"/tg_pt_gp_id", id); err != nil {
		return err
	}
	kind, err := s.Files.Read(dir + "/alua_access_type")
	if err != nil {
		return fmt.Errorf("read the type of group %s: %w", name, err)
	}
	if kind != "Implicit" { // what is written is a number, what is read is a word
		if err := s.Files.Write(dir+"/alua_access_type", "1"); err != nil {
			return fmt.Errorf("set the type of group %s: %w", name, err)
		}
	}
	return s.set(dir+"/alua_access_state", value)
}

// SetState changes the state of a group at once, without a plan. The group must be there.
func (s *System) SetState(_ context.Context, backstore, group, state string) error {
	value, ok := accessStates[state]
	if err := checkName(backstore, group); err != nil || !ok {
		return fmt.Errorf("set group %s of %s to state %q: not possible", group, backstore, state)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set(backstoreDir(backstore)+"/alua/"+prefix+group+"/alua_access_state", value)
}

// iscsiAttributes of a portal group: who is not listed gets nothing, nobody is asked for a password, and nothing is read-only.
var iscsiAttributes = [][2]string{
	{"generate_node_acls", "0"}, {"cache_dynamic_acls", "0"}, {"demo_mode_write_protect", "1"}, {"prod_mode_write_protect", "0"},
	{"demo_mode_discovery", "0"}, {"authentication", "0"}, {"default_erl", "0"},
}

// iscsiTimeouts of an initiator, in seconds: how long a connection whose other end is gone may keep a command from its end.
var iscsiTimeouts = [][2]string{{"dataout_timeout", "3"}, {"nopin_timeout", "5"}, {"nopin_response_timeout", "5"}}

func (s *System) makePort(ctx context.Context, transport, name string, addresses []string) error {
	if err := s.prepare(ctx, transport); err != nil {
		return err
	}
	if transport == SRP {
		if err := s.set("srpt/discovery_auth/rdma_cm_port", srpPort); err != nil {
			return err
		}
	}
	dir := groupDir(transport, name)
	for _, d := range []string{wwnDir(transport, name), dir} {
		if err := s.mkdir(d); err != nil {
			return err
		}
	}
	if transport == ISCSI {
		for _, a := range iscsiAttributes {
			if err := s.set(dir+"/attrib/"+a[0], a[1]); err != nil {
				return err
			}
		}
		if err := s.listen(dir, addresses); err != nil {
			return err
		}
	}
	return s.set(dir+"/enable", "1")
}

func (s *System) listen(dir string, addresses []string) error {
	have, _, err := s.Files.List(dir + "/np")
	if err != nil {
		return fmt.Errorf("list portals: %w", err)
	}
	var want []string
	for _, a := range addresses {
		want = append(want, a+":"+iscsiPort)
	}
	for _, n := range have {
		if !slices.Contains(want, n) {
			if err := s.remove(dir + "/np/" + n); err != nil {
				return err
			}
		}
	}
	for _, n := range want {
		if err := s.mkdir(dir + "/np/" + n); err != nil {
			return err
		}
	}
	return nil
}

// dropPort is refused while anything is granted there. Disabling comes first: it cuts connections off at once, where the removal of a list
// would wait for the other end to say that it has understood, a minute and more for one that is dead.
func (s *System) dropPort(transport, name string) error {
	dir := groupDir(transport, name)
	if _, err := s.Files.Read(dir + "/enable"); missing(err) {
		return s.remove(wwnDir(transport, name))
	}
	grants, err := s.grants(dir)
	if err != nil {
		return fmt.Errorf("read port %s: %w", name, err)
	}
	if len(grants) > 0 {
		return fmt.Errorf("remove port %s: %d grants are left", name, len(grants))
	}
	if err := s.set(dir+"/enable", "0"); err != nil {
		return err
	}
	for _, sub := range []string{"acls", "lun", "np"} {
		if err := s.clear(path.Join(dir, sub), sub == "acls"); err != nil {
			return err
		}
	}
	if err := s.remove(dir); err != nil {
		return err
	}
	return s.remove(wwnDir(transport, name))
}

// clear removes what is in a directory; deep: and the mapped LUNs below.
func (s *System) clear(dir string, deep bool) error {
	names, _, err := s.Files.List(dir)
	if err != nil && !missing(err) {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, n := range names {
		if deep {
			below, _, err := s.Files.List(path.Join(dir, n))
			if err != nil {
				return fmt.Errorf("list %s/%s: %w", dir, n, err)
			}
			for _, b := range below {
				if strings.HasPrefix(b, "lun_") {
					if err := s.remove(path.Join(dir, n, b)); err != nil {
						return err
					}
				}
			}
		}
		if err := s.remove(path.Join(dir, n)); err != nil {
			return err
		}
	}
	return nil
}
