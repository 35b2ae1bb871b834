// Command mkimage builds the boot image of all machines, and the guest for tests, into directories.
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

	"cloudengine/bootimage"
	"cloudengine/bootimage/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mkimage", flag.ContinueOnError)
	o := build.Options{}
	flags.StringVar(&o.Out, "o", "bin/image", "directory of the images; the new one is in a directory named after its version")
	flags.StringVar(&o.Cache, "cache", "bin/cache", "directory of fetched packages and intermediate results")
	flags.StringVar(&o.Noded, "noded", "cloudengine/workers/noded", "Go package of the agent")
	flags.IntVar(&o.Keep, "keep", 8, "how many images stay in the directory, the newest; 0 keeps all")
	guest := flags.String("guest", "bin/guest", "directory of the test guest; empty: do not build it")
	like := flags.String("like", "", "directory of an image to build again with the same package versions")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *like != "" {
		m, err := bootimage.ReadManifest(*like)
		if err != nil {
			return err
		}
		o.Like = &m
	}
	began := time.Now()
	o.Say = func(format string, args ...any) {
		fmt.Fprintf(out, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	m, err := build.Image(ctx, o)
	if err != nil {
		return err
	}
	for _, p := range m.Parts {
		o.Say("%-12s %6.1f MiB", p.Name, float64(p.Size)/(1<<20))
	}
	o.Say("image %s, %.1f MiB in all, in %s", m.Version, float64(m.Size())/(1<<20), filepath.Join(o.Out, m.Version))
	if *guest == "" {
		return nil
	}
	if err := build.Guest(ctx, o, *guest); err != nil {
		return err
	}
	o.Say("test guest in %s", *guest)
	return nil
}
