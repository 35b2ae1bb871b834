// Command debian builds the disk image of a Debian 12 guest that boots from its disk on our hosts: bin/debian/disk.img, the same as
// disk.img.zst, and manifest.json, which says what it was made of.
//
// All software is Debian's own, from the mirror that this machine's apt is configured with, and verified by apt. rootfs holds the files that
// are ours. Nothing is mounted by it and no loop device is used; mmdebstrap runs as root. README.md says what is in the image, and why.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// treeName is the directory of the root file system while it is made. Go's tools do not look into what begins so.
const treeName = "_tree"

// options are the flags.
type options struct {
	out  string // directory of the result
	size int    // of the disk in MiB
	keep bool   // the tree that the file system was made of
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "debian:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("debian", flag.ContinueOnError)
	flags.StringVar(&o.out, "o", "bin/debian", "`directory` of the image")
	flags.IntVar(&o.size, "size", 600, "of the disk in `MiB`; the root file system grows to its volume at the first boot")
	flags.BoolVar(&o.keep, "keep", false, "keep the tree that the file system was made of ("+treeName+", in the image's directory)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.size < 256 {
		return fmt.Errorf("flag -size: %d MiB: want at least 256", o.size)
	}
	b := &builder{options: o, tree: filepath.Join(o.out, treeName), began: time.Now(), log: out}
	return b.build(ctx)
}
