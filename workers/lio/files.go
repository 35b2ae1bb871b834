package lio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/sysfs"
)

// Files is what is needed of configfs. Paths are relative to its directory target. Errors are those of package os.
type Files interface {
	Mkdir(name string) error
	Remove(name string) error // a directory or a link
	Symlink(target, name string) error
	Readlink(name string) (string, error) // base name of what it points to
	List(name string) (dirs, links []string, err error)
	Read(name string) (string, error) // of an attribute, without white space at its end
	Write(name, value string) error
}

// dir is a Files over a real directory.
type dir struct{ root string }

// Dir gives the Files below a directory: /sys/kernel/config/target.
func Dir(root string) Files { return dir{root} }

func (d dir) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

func (d dir) Mkdir(name string) error { return os.Mkdir(d.path(name), 0o755) }

func (d dir) Remove(name string) error { return os.Remove(d.path(name)) }

// Symlink makes a link with an absolute target: configfs looks it up when the link is made, and from the directory of the process.
func (d dir) Symlink(target, name string) error { return os.Symlink(d.path(target), d.path(name)) }

func (d dir) Readlink(name string) (string, error) {
	t, err := os.Readlink(d.path(name))
	return filepath.Base(t), err
}

func (d dir) List(name string) (dirs, links []string, err error) {
	all, err := os.ReadDir(d.path(name))
	if err != nil {
		return nil, nil, err
	}
	for _, e := range all {
		switch {
		case e.Type()&os.ModeSymlink != 0:
			links = append(links, e.Name())
		case e.IsDir():
			dirs = append(dirs, e.Name())
		}
	}
	return dirs, links, nil
}

func (d dir) Read(name string) (string, error) {
	b, err := sysfs.ReadFile(d.path(name))
	return strings.TrimSpace(strings.Trim(string(b), "\x00")), err
}

func (d dir) Write(name, value string) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Where the kernel has configfs, and where it keeps reservations: without the directory every PERSISTENT RESERVE OUT fails.
const (
	configDir  = "sys/kernel/config"
	stateDir   = "var/target"
	guidParam  = "sys/module/ib_srpt/parameters/srpt_service_guid"
	srqSize    = "srpt_srq_size=1024" // requests that are shared by all initiators of a port
	targetCore = "target"
)

// Kernel gives the System of this machine's kernel. load loads a kernel module with its dependencies, and is no error if it is loaded.
func Kernel(root string, m events.MachineID, load func(name string, params ...string) error) *System {
	config := filepath.Join("/", root, configDir)
	k := kernel{root: filepath.Join("/", root), config: config, machine: m, load: load}
	return &System{Files: Dir(filepath.Join(config, targetCore)), Prepare: k.prepare}
}

type kernel struct {
	root, config string
	machine      events.MachineID
	load         func(name string, params ...string) error
}

// prepare loads what a transport needs; without one, what backstores need. It may be done again.
func (k kernel) prepare(_ context.Context, transport string) error {
	if err := k.core(); err != nil {
		return err
	}
	var err error
	switch transport {
	case "":
		return nil
	case ISCSI:
		// The kernel asks for crc32c by name when the first connection is made, and nothing in the image would answer.
		if err = k.load("crc32c_generic"); err == nil {
			err = k.load("iscsi_target_mod")
		}
	case SRP:
		err = k.srp()
	default:
		return fmt.Errorf("prepare transport %q: it is not known", transport)
	}
	if err != nil {
		return err
	}
	return made(os.Mkdir(filepath.Join(k.config, targetCore, path0(transport)), 0o755))
}

func path0(transport string) string { return filepath.Dir(wwnDir(transport, "x")) }

func (k kernel) core() error {
	if err := k.load("configfs"); err != nil {
		return err
	}
	if err := k.load("target_core_mod"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(k.config, targetCore)); errors.Is(err, os.ErrNotExist) {
		if err := unix.Mount("configfs", k.config, "configfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount configfs on %s: %w", k.config, err)
		}
	}
	for _, d := range []string{"pr", "alua"} {
		if err := os.MkdirAll(filepath.Join(k.root, stateDir, d), 0o700); err != nil {
			return fmt.Errorf("make the directory of reservations: %w", err)
		}
	}
	if err := k.load("target_core_iblock"); err != nil {
		return err
	}
	return made(os.Mkdir(filepath.Join(k.config, targetCore, hba), 0o755))
}

// srp loads ib_srpt under the machine's name as a target. The name cannot be changed afterwards.
func (k kernel) srp() error {
	want := events.TargetSRP(k.machine)
	if err := k.load("ib_srpt", "srpt_service_guid=0x"+want, srqSize); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(k.root, guidParam))
	if err != nil {
		return fmt.Errorf("read the service GUID of the SRP target: %w", err)
	}
	if got := strings.TrimPrefix(strings.TrimSpace(string(b)), "0x"); strings.TrimLeft(got, "0") != strings.TrimLeft(want, "0") {
		return fmt.Errorf("check the service GUID of the SRP target: it is %s, and initiators look for %s: ib_srpt was loaded by somebody else", got, want)
	}
	return nil
}

// PortName names a machine's port on a fabric: its iSCSI name, or the first GID of its RDMA device, as ib_srpt calls it. The other name
// that ib_srpt offers, the GUID, must not be used: under it, with RDMA/CM, all initiators share one access list. root is that of /sys.
func PortName(root, transport string, m events.MachineID, rdma string) (string, error) {
	if transport == ISCSI {
		return events.TargetIQN(m), nil
	}
	b, err := os.ReadFile(filepath.Join("/", root, "sys/class/infiniband", rdma, "ports/1/gids/0"))
	if err != nil {
		return "", fmt.Errorf("read the GID of RDMA device %s: %w", rdma, err)
	}
	gid := strings.ReplaceAll(strings.TrimSpace(string(b)), ":", "")
	if len(gid) != 32 || strings.Trim(gid, "0") == "" {
		return "", fmt.Errorf("read the GID of RDMA device %s: %q is none", rdma, gid)
	}
	return "0x" + gid, nil
}

// made takes it for success that something is there already.
func made(err error) error {
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// gone takes it for success that something is not there any more.
func gone(err error) error {
	if missing(err) {
		return nil
	}
	return err
}

// missing says that a file is not there, or is not there any more: a directory that goes while it is read answers ENODEV.
func missing(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) }
