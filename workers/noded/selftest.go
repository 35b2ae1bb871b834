package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"cloudengine/workers/boot"
	"cloudengine/workers/host"
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
	tools := &host.XL{Path: boot.XenBin + "/xl", Dir: *dir}
	store := &host.Xenstore{Socket: host.XenstoreSocket}
	workertest.Suite(ctx, console{out}, tools, store, workertest.Guests{Kernel: *kernel, Ramdisk: *ramdisk})
	fmt.Fprintln(out, "selftest: passed")
	return nil
}

// failed is what Fatalf throws.
type failed string

// console prints what the suite says.
type console struct{ w io.Writer }

func (c console) Logf(format string, args ...any) {
	fmt.Fprintf(c.w, "selftest: "+format+"\n", args...)
}
func (c console) Fatalf(format string, args ...any) { panic(failed(fmt.Sprintf(format, args...))) }
