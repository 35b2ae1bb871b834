package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"cloudengine/bootimage"

	"github.com/spf13/cobra"
)

// buildProgram builds images. It is a program of its own, since only it needs u-root's builder; it must run from our sources anyhow,
// because userland and agent are compiled for the image.
const buildProgram = "./bootimage/mkimage"

func (a *app) bootimageBuild() *cobra.Command {
	var source, out, cache, like, noded string
	var keep int
	cmd := &cobra.Command{
		Use: "build", Short: "Build an image from Debian packages and our sources", Args: cobra.NoArgs,
		Long: `Build an image from the Debian packages that apt offers now and from our sources, which must be in --source, together with Go.
With --like the package versions of another image are taken instead: the same sources and manifest give the same bytes, and so the
same version. Every package is verified against apt's signed lists. Needs no root.`,
		Example: `  cloudengine bootimage build
  cloudengine bootimage build --like bin/image/7888878055d9424a --out /tmp/again
  cloudengine bootimage diff 7888878055d9424a bin/image/current`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(filepath.Join(source, "bootimage", "mkimage", "main.go")); err != nil {
				return fmt.Errorf("find the sources that an image is built from in %s: %w (name them with --source)", source, err)
			}
			for _, p := range []*string{&out, &cache, &like} {
				if *p == "" {
					continue
				}
				abs, err := filepath.Abs(*p)
				if err != nil {
					return err
				}
				*p = abs
			}
			args := []string{"run", buildProgram, "-o", out, "-cache", cache, "-keep", strconv.Itoa(keep), "-guest", ""}
			if like != "" {
				args = append(args, "-like", like)
			}
			if noded != "" {
				args = append(args, "-noded", noded)
			}
			build := exec.CommandContext(cmd.Context(), "go", args...)
			build.Dir, build.Stdout, build.Stderr = source, a.err, a.err
			if err := build.Run(); err != nil {
				return fmt.Errorf("build boot image: %w", err)
			}
			m, err := bootimage.ReadManifest(filepath.Join(out, bootimage.CurrentLink))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, m.Version)
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&source, "source", ".", "directory of CloudEngine's sources")
	fs.StringVar(&out, "out", "bin/image", "directory of the images; the new one is in a directory named after its version")
	fs.StringVar(&cache, "cache", "bin/cache", "directory of fetched packages and intermediate results")
	fs.StringVar(&like, "like", "", "directory of an image whose package versions are taken again")
	fs.StringVar(&noded, "noded", "", "Go package of the agent (default: ours)")
	fs.IntVar(&keep, "keep", 8, "how many images stay in the directory, the newest; 0 keeps all")
	return cmd
}
