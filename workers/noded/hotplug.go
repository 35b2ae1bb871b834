package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/boot"
	"cloudengine/workers/host"
	"cloudengine/workers/network"
	storage "cloudengine/workers/path"
	"cloudengine/workers/seed"
)

var (
	errNotBlock = errors.New("it is not a block device")
	errNotOurs  = errors.New("it is not the device of a volume")
	errHotplug  = errors.New("not a call that this program knows")
)

// hotplug is what libxl calls for each disk and NIC of a domain: argv[1] is the action, the environment says for what (facts of
// Xen 4.17: XENBUS_TYPE, XENBUS_PATH relative to dom0's directory, vif). It reports by the nodes hotplug-status and hotplug-error.
func hotplug(ctx context.Context, args []string) error {
	store := &host.Xenstore{Socket: host.XenstoreSocket}
	err := plug(ctx, store, args, os.Getenv)
	if err == nil {
		return nil
	}
	dir := backend(os.Getenv)
	return errors.Join(err, store.Write(ctx, path.Join(dir, "hotplug-error"), err.Error()), store.Write(ctx, path.Join(dir, "hotplug-status"), "error"))
}

func backend(env func(string) string) string { return path.Join("/local/domain/0", env("XENBUS_PATH")) }

func plug(ctx context.Context, store host.Store, args []string, env func(string) string) error {
	if len(args) == 0 || env("XENBUS_PATH") == "" {
		return fmt.Errorf("hotplug %v: %w", args, errHotplug)
	}
	switch kind := env("XENBUS_TYPE"); {
	case args[0] == "remove" || args[0] == "offline":
		return nil
	case kind == "vbd" && args[0] == "add":
		return plugDisk(ctx, store, &seed.Dir{Path: seedDir(boot.RunDir)}, backend(env))
	case kind == "vif" && args[0] == "online":
		return plugVif(ctx, store, network.Kernel{}, backend(env))
	default:
		return fmt.Errorf("hotplug %s %s: %w", kind, args[0], errHotplug)
	}
}

// plugDisk insists on the block device of a volume, by the identifier that device-mapper has for it, or on the domain's own seed: a path where
// a plain file lies would give the guest no disk, and no error; another device would give it somebody else's.
func plugDisk(ctx context.Context, store host.Store, seeds *seed.Dir, dir string) error {
	target, err := store.Read(ctx, dir+"/params")
	if err != nil {
		return fmt.Errorf("hotplug disk: %w", err)
	}
	if l, is, err := seedAt(ctx, store, seeds, dir, target); is {
		if err != nil {
			return fmt.Errorf("hotplug seed: %w", err)
		}
		return plugged(ctx, store, dir, unix.Mkdev(l.Major, l.Minor), l.Path())
	}
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil {
		return fmt.Errorf("hotplug disk %s: %w", target, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return fmt.Errorf("hotplug disk %s: %w", target, errNotBlock)
	}
	if err := isVolume(target, fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))); err != nil {
		return fmt.Errorf("hotplug disk %s: %w", target, err)
	}
	return plugged(ctx, store, dir, st.Rdev, target)
}

// plugged tells libxl which device it is.
func plugged(ctx context.Context, store host.Store, dir string, device uint64, target string) error {
	number := fmt.Sprintf("%x:%x", unix.Major(device), unix.Minor(device))
	for _, n := range [][2]string{{"physical-device", number}, {"physical-device-path", target}, {"hotplug-status", "connected"}} {
		if err := store.Write(ctx, dir+"/"+n[0], n[1]); err != nil {
			return fmt.Errorf("hotplug disk %s: %w", target, err)
		}
	}
	return nil
}

var errWritable = errors.New("it would be attached writable")

// seedAt finds the seed at a path. Which VM the domain is of, libxl has written before it calls us; a guest cannot change it.
func seedAt(ctx context.Context, store host.Store, seeds *seed.Dir, dir, target string) (l seed.Loop, is bool, err error) {
	if !seeds.Is(target) {
		return l, false, nil
	}
	domid := path.Base(path.Dir(dir))
	uuid, err := store.Read(ctx, "/local/domain/"+domid+"/vm")
	if err != nil {
		return l, true, fmt.Errorf("read UUID of domain %s: %w", domid, err)
	}
	mode, err := store.Read(ctx, dir+"/mode")
	if err != nil {
		return l, true, fmt.Errorf("read mode of a disk of domain %s: %w", domid, err)
	}
	if mode != "r" {
		return l, true, errWritable
	}
	l, err = seeds.Device(target, events.VMID(strings.TrimPrefix(uuid, "/vm/")))
	return l, true, err
}

// isVolume checks that what lies at a path is the device of the volume that the path is for. sys is the device's directory in sysfs.
func isVolume(target, sys string) error {
	volume, ok := storage.VolumeOfPath(target)
	if !ok {
		return errNotOurs
	}
	uuid, err := os.ReadFile(filepath.Join(sys, "dm/uuid"))
	if err != nil {
		return fmt.Errorf("%w: %w", errNotOurs, err)
	}
	if got := strings.TrimSpace(string(uuid)); got != storage.VolumeUUID(volume) {
		return fmt.Errorf("it is %q: %w", got, errNotOurs)
	}
	return nil
}
