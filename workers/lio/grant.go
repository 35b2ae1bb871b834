package lio

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

var errElsewhere = errors.New("it leads to something else")

// grant lets an initiator in. The last link is what gives access; all before it is checked again, because this is where a mistake would
// show somebody another device.
func (s *System) grant(transport, port, serial string, g Grant) error {
	dir := groupDir(transport, port)
	store, err := s.backstore(g.Backstore)
	if err != nil {
		return fmt.Errorf("read backstore %s: %w", g.Backstore, err)
	}
	if !store.Ready || store.UnitSerial != serial {
		return fmt.Errorf("grant %s to %s: the backstore is not ready under serial %s: %+v", g.Backstore, g.Initiator, serial, store)
	}
	lun := dir + "/lun/" + lunObject(g.Initiator, g.Backstore)
	if err := s.mkdir(lun); err != nil {
		return err
	}
	if err := s.link(backstoreDir(g.Backstore), lun, label(g)); err != nil {
		return err
	}
	if err := s.joinGroup(lun, g.Group); err != nil {
		return err
	}
	acl := dir + "/acls/" + g.Initiator
	if err := s.mkdir(acl); err != nil {
		return err
	}
	if transport == ISCSI {
		for _, a := range iscsiTimeouts {
			if err := s.set(acl+"/attrib/"+a[0], a[1]); err != nil {
				return err
			}
		}
	}
	number := acl + "/lun_" + strconv.FormatUint(LUN(serial), 10)
	if err := s.mkdir(number); err != nil {
		return err
	}
	return s.link(lun, number, path.Base(lun))
}

// link makes the one link of a directory, or makes sure that it is the wanted one.
func (s *System) link(target, dir, name string) error {
	_, links, err := s.Files.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	if len(links) == 0 {
		if err := s.Files.Symlink(target, dir+"/"+name); err != nil {
			return fmt.Errorf("link %s to %s: %w", dir, target, err)
		}
		return nil
	}
	have, err := s.Files.Readlink(dir + "/" + links[0])
	if err != nil {
		return fmt.Errorf("read link %s/%s: %w", dir, links[0], err)
	}
	if len(links) > 1 || links[0] != name || have != path.Base(target) {
		return fmt.Errorf("link %s to %s: %w", dir, target, errElsewhere)
	}
	return nil
}

func (s *System) joinGroup(lun, group string) error {
	info, err := s.Files.Read(lun + "/alua_tg_pt_gp")
	if err != nil {
		return fmt.Errorf("read the group of %s: %w", lun, err)
	}
	if parseGroup(info) == group {
		return nil
	}
	value := "NULL" // back to the default group
	if group != "" {
		value = prefix + group
	}
	if err := s.Files.Write(lun+"/alua_tg_pt_gp", value); err != nil {
		return fmt.Errorf("put %s into group %s: %w", lun, group, err)
	}
	return nil
}

// revoke shuts an initiator out of a backstore. When it returns nil, no command of it reaches the device any more and none is under way.
//
// How that is made sure, by Linux 6.1: each command takes a reference on its LUN object when it is looked up by its initiator's list
// (transport_lookup_cmd_lun), and gives it back only when the device has completed it, also when it is aborted or its session ends
// (transport_lun_remove_cmd). First the initiator's entry goes: commands that come after it find nothing. Then the link from the LUN object
// to the device goes: core_tpg_remove_lun kills the reference, so that a command that found the entry just before is turned away, and
// unlink(2) returns when the last one was given back (transport_clear_lun_ref). The LUN object is of this initiator alone.
//
// The session stays, without this LUN, for the others that it may have. To end it would not make this surer, and for SRP it would make it
// slow: ib_srpt waits for the other end's answer before it closes a channel (srpt_disconnect_ch_sync), which takes a dead machine more
// than a minute, while the directory of all access lists is locked.
//
// What is under way ends by itself: commands at the device when it answers; writes that wait for data of a dead initiator by iSCSI's
// timeouts (iscsiTimeouts; 3 s were seen), and over RDMA when the queue pair has given up (7 s were seen). unlink cannot be interrupted while
// it waits. The tests of the lab do both with a real kernel, and see that nothing changes on the disk any more from the return on.
func (s *System) revoke(transport, port string, g Grant) error {
	dir := groupDir(transport, port)
	object := lunObject(g.Initiator, g.Backstore)
	lun := dir + "/lun/" + object
	there, links, err := s.shut(dir, lun, g)
	if err != nil || !there {
		return err
	}
	defer func() {
		s.watch.Lock()
		delete(s.draining, lun)
		s.watch.Unlock()
	}()
	for _, l := range links {
		if err := s.remove(lun + "/" + l); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(lun)
}

// shut takes the LUN out of the initiator's list, and notes that its commands run out.
func (s *System) shut(dir, lun string, g Grant) (there bool, links []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.unlist(path.Join(dir, "acls", g.Initiator), path.Base(lun)); err != nil {
		return false, nil, err
	}
	have, there, err := s.lun(lun)
	if err != nil {
		return false, nil, fmt.Errorf("read %s: %w", lun, err)
	}
	if !there {
		return false, nil, s.remove(lun)
	}
	s.watch.Lock()
	defer s.watch.Unlock()
	if _, twice := s.draining[lun]; twice {
		return false, nil, fmt.Errorf("revoke %s from %s: it is being done", g.Backstore, g.Initiator)
	}
	if s.draining == nil {
		s.draining = map[string]Grant{}
	}
	have.Ready = false
	s.draining[lun] = have
	return true, []string{label(have)}, nil
}

// unlist removes the entries of an initiator's list that lead to a LUN object, and those that lead nowhere.
func (s *System) unlist(acl, object string) error {
	numbers, _, err := s.Files.List(acl)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", acl, err)
	}
	for _, n := range numbers {
		if !strings.HasPrefix(n, "lun_") {
			continue
		}
		dir := acl + "/" + n
		_, links, err := s.Files.List(dir)
		if err != nil && !missing(err) {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		left := len(links)
		for _, l := range links {
			to, err := s.Files.Readlink(dir + "/" + l)
			if err != nil && !missing(err) {
				return fmt.Errorf("read link %s/%s: %w", dir, l, err)
			}
			if to == object || missing(err) {
				if err := s.remove(dir + "/" + l); err != nil {
					return err
				}
				left--
			}
		}
		if left == 0 {
			if err := s.remove(dir); err != nil {
				return err
			}
		}
	}
	return nil
}
