package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"cloudengine/workers/boot"
	"cloudengine/workers/dm"
	"cloudengine/workers/host"
	"cloudengine/workers/modprobe"
	storage "cloudengine/workers/path"
	"cloudengine/workers/workertest"
)

// selftest runs on a real host the suite that the model passes. Run it in dom0 with nothing else going on.
func selftest(ctx context.Context, args []string, out io.Writer) (err error) {
	f := flag.NewFlagSet("noded selftest", flag.ContinueOnError)
	kernel := f.String("kernel", "", "`path` of the test guest's kernel")
	ramdisk := f.String("ramdisk", "", "`path` of the test guest's ramdisk")
	dir := f.String("dir", boot.RunDir+"/selftest", "`directory` for configurations")
	if err := f.Parse(args); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			if stop, ok := r.(failed); ok {
				err = fmt.Errorf("selftest: %s", string(stop))
				return
			}
			panic(r)
		}
	}()
	disk, gone, err := selftestDisk()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gone()) }()
	tools := &host.XL{Path: boot.XenBin + "/xl", Dir: *dir}
	store := &host.Xenstore{Socket: host.XenstoreSocket}
	workertest.Suite(ctx, console{out}, tools, store, workertest.Guests{Kernel: *kernel, Ramdisk: *ramdisk, Disk: disk})
	fmt.Fprintln(out, "selftest: passed")
	return nil
}

// selftestDisk makes a device as disks of domains have them. It is of nothing: reading it is an error, which a guest that does not use it
// does not mind.
func selftestDisk() (path string, gone func() error, err error) {
	const volume, sectors = "suite", 16384
	if err := modprobe.Load("dm-mod"); err != nil {
		return "", nil, err
	}
	name := storage.VolumeName(volume)
	if err := dm.Create(name, storage.VolumeUUID(volume), []dm.Target{dm.Error(0, sectors)}); err != nil {
		return "", nil, err
	}
	return storage.VolumePath(volume), func() error { return dm.Remove(name) }, nil
}

// failed is what Fatalf throws.
type failed string

// console prints what the suite says.
type console struct{ w io.Writer }

func (c console) Logf(format string, args ...any) {
	fmt.Fprintf(c.w, "selftest: "+format+"\n", args...)
}
func (c console) Fatalf(format string, args ...any) { panic(failed(fmt.Sprintf(format, args...))) }
