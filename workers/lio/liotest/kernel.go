// Package liotest is a kernel's target in memory: what configfs has below its directory target, with the rules that package lio relies on.
//
// It makes attribute files and default directories itself, refuses what the kernel refuses, and says at any time who can reach what. It
// knows nothing of sessions and commands.
package liotest

import (
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"
)

// Kernel implements lio.Files. It is safe for concurrent use.
type Kernel struct {
	// Each is called before every change with its name, and again after it; an error before it is what the change fails with. May be nil.
	Each func(change string, done bool) error
	// DevNo gives the numbers of a device's node; without it, or if it says "", the device cannot be opened.
	DevNo func(device string) string

	mu    sync.Mutex
	dirs  map[string]bool // true: made by the kernel
	links map[string]string
	attrs map[string]string
}

// New makes a kernel with the modules loaded and nothing exported.
func New() *Kernel {
	k := &Kernel{dirs: map[string]bool{}, links: map[string]string{}, attrs: map[string]string{}}
	for _, d := range []string{"core", "core/iblock_0", "iscsi", "srpt", "srpt/discovery_auth"} {
		k.dirs[d] = true
	}
	k.attrs["srpt/discovery_auth/rdma_cm_port"] = "0"
	return k
}

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (k *Kernel) change(name string, do func() error) error {
	if k.Each != nil {
		if err := k.Each(name, false); err != nil {
			return err
		}
	}
	k.mu.Lock()
	err := do()
	k.mu.Unlock()
	if err == nil && k.Each != nil {
		return k.Each(name, true)
	}
	return err
}

// Mkdir makes an object, with what the kernel makes in it.
func (k *Kernel) Mkdir(name string) error {
	return k.change("mkdir "+name, func() error {
		if _, ok := k.dirs[name]; ok {
			return fail("mkdir", name, syscall.EEXIST)
		}
		if _, ok := k.dirs[path.Dir(name)]; !ok {
			return fail("mkdir", name, syscall.ENOENT)
		}
		dirs, attrs, ok := objects(name)
		if !ok {
			return fail("mkdir", name, syscall.EPERM)
		}
		k.dirs[name] = false
		for _, d := range dirs {
			k.dirs[name+"/"+d] = true
		}
		for a, v := range attrs {
			k.attrs[name+"/"+a] = v
		}
		return nil
	})
}

// objects says what the kernel makes in an object of that name.
func objects(name string) (dirs []string, attrs map[string]string, ok bool) {
	p := strings.Split(name, "/")
	switch {
	case len(p) == 3 && p[0] == "core":
		return []string{"wwn", "alua", "attrib", "alua/default_tg_pt_gp"},
			map[string]string{"enable": "0", "control": "", "wwn/vpd_unit_serial": "", "attrib/emulate_3pc": "1"}, true
	case len(p) == 5 && p[0] == "core" && p[3] == "alua":
		return nil, map[string]string{"tg_pt_gp_id": "", "alua_access_state": "0", "alua_access_type": "Implicit and Explicit"}, true
	case len(p) == 2 && (p[0] == "iscsi" || p[0] == "srpt" && strings.HasPrefix(p[1], "0x")):
		return []string{"fabric_statistics", "param"}, nil, true
	case len(p) == 3 && p[0] == "iscsi" && strings.HasPrefix(p[2], "tpgt_"):
		return []string{"lun", "np", "acls", "attrib", "auth", "param"}, map[string]string{"enable": "0",
			"attrib/generate_node_acls": "0", "attrib/cache_dynamic_acls": "0", "attrib/demo_mode_write_protect": "1", "attrib/prod_mode_write_protect": "0",
			"attrib/demo_mode_discovery": "1", "attrib/authentication": "1", "attrib/default_erl": "0"}, true
	case len(p) == 3 && p[0] == "srpt":
		return []string{"lun", "np", "acls", "attrib", "auth", "param"}, map[string]string{"enable": "0"}, true
	case len(p) == 5 && p[3] == "lun" && strings.HasPrefix(p[4], "lun_"):
		return []string{"statistics"}, map[string]string{"alua_tg_pt_gp": ""}, true
	case len(p) == 5 && p[3] == "np" && p[0] == "iscsi" && strings.Contains(p[4], ":"):
		return nil, nil, true
	case len(p) == 5 && p[3] == "acls":
		return []string{"attrib", "auth", "param", "fabric_statistics"},
			map[string]string{"attrib/dataout_timeout": "3", "attrib/nopin_timeout": "15", "attrib/nopin_response_timeout": "30"}, true
	case len(p) == 6 && p[3] == "acls" && strings.HasPrefix(p[5], "lun_"):
		return []string{"statistics"}, nil, true
	}
	return nil, nil, false
}

// Remove removes an empty object, or a link.
func (k *Kernel) Remove(name string) error {
	return k.change("remove "+name, func() error {
		if _, ok := k.links[name]; ok {
			if p := path.Dir(name); path.Base(path.Dir(p)) == "lun" && k.linkedTo(p) {
				return fail("remove", name, syscall.EBUSY) // the kernel would let go what is mapped; nobody may rely on it
			}
			delete(k.links, name)
			return nil
		}
		made, ok := k.dirs[name]
		switch {
		case !ok:
			return fail("remove", name, syscall.ENOENT)
		case made:
			return fail("remove", name, syscall.EPERM)
		case k.linkedTo(name):
			return fail("remove", name, syscall.EBUSY)
		}
		for d, byKernel := range k.dirs {
			if strings.HasPrefix(d, name+"/") && !byKernel {
				return fail("remove", name, syscall.ENOTEMPTY)
			}
		}
		for l := range k.links {
			if strings.HasPrefix(l, name+"/") {
				return fail("remove", name, syscall.ENOTEMPTY)
			}
		}
		for d := range k.dirs {
			if d == name || strings.HasPrefix(d, name+"/") {
				delete(k.dirs, d)
			}
		}
		for a := range k.attrs {
			if strings.HasPrefix(a, name+"/") {
				delete(k.attrs, a)
			}
		}
		return nil
	})
}

func (k *Kernel) linkedTo(name string) bool {
	for _, t := range k.links {
		if t == name {
			return true
		}
	}
	return false
}

// Symlink gives a LUN object its backstore, or a list its LUN object.
func (k *Kernel) Symlink(target, name string) error {
	return k.change("link "+name, func() error {
		dir := path.Dir(name)
		if _, ok := k.dirs[dir]; !ok {
			return fail("symlink", name, syscall.ENOENT)
		}
		if _, ok := k.dirs[target]; !ok {
			return fail("symlink", name, syscall.ENOENT)
		}
		if _, ok := k.links[name]; ok {
			return fail("symlink", name, syscall.EEXIST)
		}
		for l := range k.links {
			if path.Dir(l) == dir {
				return fail("symlink", name, syscall.EEXIST)
			}
		}
		switch in := path.Base(path.Dir(dir)); {
		case in == "lun" && path.Dir(target) == "core/iblock_0":
			if k.attrs[target+"/enable"] != "1" {
				return fail("symlink", name, syscall.ENODEV)
			}
			k.attrs[dir+"/alua_tg_pt_gp"] = groupInfo("default_tg_pt_gp")
		case path.Base(path.Dir(path.Dir(dir))) == "acls" && path.Base(path.Dir(target)) == "lun":
			if path.Dir(path.Dir(target)) != path.Dir(path.Dir(path.Dir(dir))) || len(k.below(target)) == 0 {
				return fail("symlink", name, syscall.EINVAL)
			}
		default:
			return fail("symlink", name, syscall.EPERM)
		}
		k.links[name] = target
		return nil
	})
}

func groupInfo(name string) string {
	return "TG Port Alias: " + name + "\nTG Port Group ID: 0\nTG Port Primary Access State: Active/Optimized"
}

// below lists the links in a directory.
func (k *Kernel) below(dir string) []string {
	var out []string
	for l := range k.links {
		if path.Dir(l) == dir {
			out = append(out, l)
		}
	}
	sort.Strings(out)
	return out
}

// Readlink gives the base name of a link's target.
func (k *Kernel) Readlink(name string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.links[name]
	if !ok {
		return "", fail("readlink", name, syscall.ENOENT)
	}
	return path.Base(t), nil
}

// List gives the directories and links in a directory.
func (k *Kernel) List(name string) (dirs, links []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.dirs[name]; !ok {
		return nil, nil, fail("list", name, syscall.ENOENT)
	}
	for d := range k.dirs {
		if path.Dir(d) == name {
			dirs = append(dirs, path.Base(d))
		}
	}
	for _, l := range k.below(name) {
		links = append(links, path.Base(l))
	}
	sort.Strings(dirs)
	return dirs, links, nil
}

// Read gives an attribute.
func (k *Kernel) Read(name string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	switch base {
	case "info":
		if dev := k.attrs[dir+"/control"]; dev != "" && k.attrs[dir+"/enable"] == "1" {
			major, minor, _ := strings.Cut(k.attrs[dir+"/numbers"], ":")
			return fmt.Sprintf("Status: DEACTIVATED  Max Queue Depth: 0\n        iBlock device: x  UDEV PATH: %s  readonly: 0\n"+
				"        Major: %s Minor: %s  CLAIMED: IBLOCK", dev, major, minor), nil
		} else if dev != "" {
			return "Status: DEACTIVATED    UDEV PATH: " + dev + "  readonly: 0\n        Major: 0 Minor: 0", nil
		}
		return "Status: DEACTIVATED  readonly: 0\n        Major: 0 Minor: 0", nil
	case "vpd_unit_serial":
		return "T10 VPD Unit Serial Number: " + k.attrs[name], nil
	}
	v, ok := k.attrs[name]
	if !ok {
		return "", fail("read", name, syscall.ENOENT)
	}
	return v, nil
}

// Write sets an attribute, as far as the kernel allows it now.
func (k *Kernel) Write(name, value string) error {
	return k.change("write "+name, func() error {
		if _, ok := k.attrs[name]; !ok {
			return fail("write", name, syscall.ENOENT)
		}
		dir, base := path.Split(name)
		dir = strings.TrimSuffix(dir, "/")
		switch base {
		case "control":
			value = strings.TrimPrefix(value, "udev_path=")
			if k.attrs[dir+"/enable"] == "1" {
				return fail("write", name, syscall.EEXIST)
			}
		case "enable":
			if path.Dir(dir) == "core/iblock_0" {
				return k.enable(dir, name)
			}
		case "vpd_unit_serial":
			if k.linkedTo(path.Dir(dir)) {
				return fail("write", name, syscall.EINVAL)
			}
		case "tg_pt_gp_id":
			if k.attrs[name] != "" {
				return fail("write", name, syscall.EINVAL)
			}
		case "alua_access_type":
			value = map[string]string{"1": "Implicit"}[value]
		case "alua_access_state":
			if k.attrs[dir+"/tg_pt_gp_id"] == "" || k.attrs[path.Dir(path.Dir(dir))+"/enable"] != "1" {
				return fail("write", name, syscall.EINVAL)
			}
		case "alua_tg_pt_gp":
			links := k.below(dir)
			if value == "NULL" {
				value = "default_tg_pt_gp"
			}
			if len(links) == 0 {
				return fail("write", name, syscall.ENODEV)
			}
			if _, ok := k.dirs[k.links[links[0]]+"/alua/"+value]; !ok {
				return fail("write", name, syscall.ENODEV)
			}
			value = groupInfo(value)
		}
		k.attrs[name] = value
		return nil
	})
}

func (k *Kernel) enable(dir, name string) error {
	device, no := k.attrs[dir+"/control"], ""
	if k.DevNo != nil {
		no = k.DevNo(device)
	}
	if device == "" || no == "" {
		return fail("write", name, syscall.ENODEV)
	}
	for d := range k.dirs { // a device is opened exclusively
		if d != dir && k.attrs[d+"/enable"] == "1" && k.attrs[d+"/control"] == device {
			return fail("write", name, syscall.EBUSY)
		}
	}
	k.attrs[name], k.attrs[dir+"/numbers"] = "1", no
	return nil
}

// Access says who can reach what: an initiator's name, then the devices and in what group, in order.
func (k *Kernel) Access() map[string][]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string][]string{}
	for l, object := range k.links {
		p := strings.Split(l, "/")
		if len(p) != 7 || p[3] != "acls" || k.attrs[path.Join(p[0], p[1], p[2], "enable")] != "1" {
			continue
		}
		for _, s := range k.below(object) {
			out[p[4]] = append(out[p[4]], k.attrs[k.links[s]+"/control"]+" as "+k.attrs[k.links[s]+"/wwn/vpd_unit_serial"]+" "+p[5])
		}
	}
	for _, v := range out {
		sort.Strings(v)
	}
	return out
}
