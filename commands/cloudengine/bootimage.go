package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"cloudengine/bootimage"
	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var bootimageColumns = []column{
	field("VERSION", "id"), optional("NAME", "name"), {"DEFAULT", func(r row) string { return mark(r["is_default"] == true) }},
	field("KERNEL", "kernel"), bytesColumn("SIZE", "size"), field("PACKAGES", "packages"), field("REGISTERED", "created_at"),
}

func mark(set bool) string {
	if set {
		return "default"
	}
	return "-"
}

// bytesColumn shows a number of bytes as MiB with one digit.
func bytesColumn(head, name string) column {
	return column{head, func(r row) string { return mib(int64(r.number(name))) }}
}

func mib(n int64) string { return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20)) }

func (a *app) bootimageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bootimage", Short: "Versions of the image that machines boot: build, compare, roll out, roll back"}
	list := a.listCommand(events.KindBootimage, "the versions that machines can be told to boot", bootimageColumns)
	list.Use, list.Aliases, list.Example = "ls", []string{"list"}, "  cloudengine bootimage ls"
	cmd.AddCommand(list, a.bootimageShow(), a.bootimageDiff(), a.bootimageBuild(), a.bootimageAdd(), a.bootimageRemove(), a.bootimageDefault(),
		a.bootimageRoll(), a.bootimageRollback())
	return cmd
}

// manifestOf finds an image by the directory that it is in, or by version, beginning of it, or name at the server.
func (a *app) manifestOf(ctx context.Context, ref string) (bootimage.Manifest, error) {
	if _, err := os.Stat(filepath.Join(ref, bootimage.ManifestFile)); err == nil {
		return bootimage.ReadManifest(ref)
	}
	c, err := a.connect(ctx)
	if err != nil {
		return bootimage.Manifest{}, fmt.Errorf("find boot image %s: it is no directory with a %s here, and the server cannot be asked: %w", ref, bootimage.ManifestFile, err)
	}
	defer c.Close()
	r, err := a.find(ctx, c, events.KindBootimage, ref)
	if err != nil {
		return bootimage.Manifest{}, err
	}
	raw, err := json.Marshal(r["manifest"])
	if err != nil {
		return bootimage.Manifest{}, err
	}
	var m bootimage.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("read manifest of boot image %s: %w", ref, err)
	}
	return m, nil
}

func (a *app) bootimageShow() *cobra.Command {
	return &cobra.Command{
		Use: "show VERSION|NAME|DIRECTORY", Short: "Show what an image is made of, and what each part of it costs", Args: cobra.ExactArgs(1),
		Example:           "  cloudengine bootimage show bin/image/current\n  cloudengine bootimage show 7888878055d9424a -o json",
		ValidArgsFunction: a.complete(events.KindBootimage),
		RunE: func(cmd *cobra.Command, words []string) error {
			m, err := a.manifestOf(cmd.Context(), words[0])
			if err != nil {
				return err
			}
			switch a.output {
			case "json":
				return a.json(m)
			case "yaml":
				return a.yaml(m)
			case "name":
				_, err := fmt.Fprintln(a.out, m.Version)
				return err
			}
			return a.showManifest(m)
		},
	}
}

// showManifest prints the parts, then what fills the initramfs, then versions.
func (a *app) showManifest(m bootimage.Manifest) error {
	fmt.Fprintf(a.out, "version: %s\nkernel: %s\nsize: %s\n\n", m.Version, m.Kernel, mib(m.Size()))
	var rows []row
	for _, p := range m.Parts {
		rows = append(rows, row{"name": p.Name, "size": mib(p.Size), "sha256": p.SHA256})
	}
	if err := table(a.out, []column{field("PART", "name"), field("SIZE", "size"), field("SHA256", "sha256")}, rows, withHeads); err != nil {
		return err
	}
	if len(m.Contents) > 0 {
		rows = nil
		var all int64
		for _, c := range m.Contents {
			all += c.Size
			rows = append(rows, row{"name": c.Name, "files": strconv.Itoa(c.Files), "size": mib(c.Size)})
		}
		fmt.Fprintf(a.out, "\nIn the initramfs, unpacked: %s\n", mib(all))
		if err := table(a.out, []column{field("FROM", "name"), field("FILES", "files"), field("SIZE", "size")}, rows, withHeads); err != nil {
			return err
		}
	}
	rows = nil
	for _, p := range m.Packages {
		rows = append(rows, row{"name": p.Name, "version": p.Version, "sha256": p.SHA256})
	}
	for _, t := range m.Tools {
		rows = append(rows, row{"name": t.Name, "version": t.Version, "sha256": "-"})
	}
	fmt.Fprintln(a.out)
	return table(a.out, []column{field("MADE-OF", "name"), field("VERSION", "version"), field("SHA256", "sha256")}, rows, withHeads)
}

func (a *app) bootimageDiff() *cobra.Command {
	return &cobra.Command{
		Use: "diff IMAGE IMAGE", Short: "Show what differs between two images: packages, tools, sizes", Args: cobra.ExactArgs(2),
		Long:              "Show what differs between two images, each given as VERSION, NAME or DIRECTORY. Nothing is printed if nothing differs.",
		Example:           "  cloudengine bootimage diff 7888878055d9424a bin/image/current",
		ValidArgsFunction: a.complete(events.KindBootimage),
		RunE: func(cmd *cobra.Command, words []string) error {
			var both [2]bootimage.Manifest
			for i, ref := range words {
				m, err := a.manifestOf(cmd.Context(), ref)
				if err != nil {
					return err
				}
				both[i] = m
			}
			var rows []row
			for _, c := range bootimage.Diff(both[0], both[1]) {
				rows = append(rows, row{"what": c.What, "name": c.Name, "before": dash(c.Before), "after": dash(c.After)})
			}
			if len(rows) == 0 && a.output == "table" {
				a.talk("nothing differs: both are %s", both[0].Version)
				return nil
			}
			return a.list([]column{field("WHAT", "what"), field("NAME", "name"), field(both[0].Version, "before"), field(both[1].Version, "after")}, rows)
		},
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) bootimageAdd() *cobra.Command {
	var f intentFlags
	var name string
	cmd := &cobra.Command{
		Use: "add DIRECTORY", Short: "Upload an image and make its version known; no machine boots it yet", Args: cobra.ExactArgs(1),
		Long: `Upload an image and make its version known. What is in the server's own image directory is found by itself within some seconds.
No machine boots it until it is told so: bootimage roll, bootimage default, machine set-image.`,
		Example: "  cloudengine bootimage add bin/image/current --name november",
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			m, err := bootimage.Verify(words[0])
			if err != nil {
				return err
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			for _, p := range m.Parts {
				blob, err := a.upload(ctx, c, p.Name, filepath.Join(words[0], p.Name))
				if err != nil {
					return err
				}
				if blob.SHA256 != p.SHA256 {
					return fmt.Errorf("upload %s: it has changed meanwhile: digest %s, the manifest says %s", p.Name, blob.SHA256, p.SHA256)
				}
			}
			args := map[string]any{"manifest": m}
			if name != "" {
				args["name"] = name
			}
			answer, err := a.send(ctx, c, &f, intent{events.KindBootimage, "register", args, "", m.Version})
			if err == nil && a.output == "table" && !f.dryRun {
				fmt.Fprintln(a.out, m.Version)
			}
			if err == nil && answer.Outcome.Status == events.Accepted {
				a.talk("next: cloudengine bootimage roll %s --canary 1", m.Version)
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&name, "name", "", "what people call it")
	return cmd
}

func (a *app) bootimageRemove() *cobra.Command {
	return a.actOn(actOn{
		kind: events.KindBootimage, verb: "remove", use: "rm", short: "Make a version unknown that no machine boots",
		example: "  cloudengine bootimage rm 46360d3736c7daa1 --reason \"replaced\"",
	})
}

func (a *app) bootimageDefault() *cobra.Command {
	return a.actOn(actOn{
		kind: events.KindBootimage, verb: "set_default", use: "default", short: "Set what machines boot that have no image of their own; reboots nothing",
		example: "  cloudengine bootimage default 7888878055d9424a",
	})
}

// machineSetImage says what one machine boots next.
func (a *app) machineSetImage() *cobra.Command {
	var f intentFlags
	cmd := &cobra.Command{
		Use: "set-image NAME|ID IMAGE", Short: "Say which boot image a machine is given at its next boot; reboots nothing", Args: cobra.ExactArgs(2),
		Long:              "Say which boot image a machine is given at its next boot: VERSION or NAME of one that is registered, or the word default.",
		Example:           "  cloudengine machine set-image host1 7888878055d9424a\n  cloudengine machine set-image host1 default",
		ValidArgsFunction: a.complete(events.KindMachine),
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			m, err := a.find(ctx, c, events.KindMachine, words[0])
			if err != nil {
				return err
			}
			args := map[string]any{"machine": m.text("id")}
			if words[1] != "default" {
				image, err := a.find(ctx, c, events.KindBootimage, words[1])
				if err != nil {
					return err
				}
				args["image"] = image.text("id")
			}
			_, err = a.send(ctx, c, &f, intent{events.KindMachine, "set_image", args, nameOf(m), nameOf(m)})
			return err
		},
	}
	f.add(cmd)
	return cmd
}

// imageColumn shows what a machine runs, and what it is given at its next boot if that differs.
var imageColumn = column{"IMAGE", func(r row) string {
	runs, next := optionalText(r, "image"), optionalText(r, "image_next")
	switch {
	case next == "-" || next == runs:
		return runs
	case runs == "-":
		return next + " at its next boot"
	}
	return runs + " (differs: " + next + " takes effect at its next boot)"
}}

func optionalText(r row, name string) string {
	if r[name] == nil {
		return "-"
	}
	return r.text(name)
}

var errNoImage = errors.New("no such boot image")

// registered finds the version of a registered image.
func (a *app) registered(ctx context.Context, c *client.Client, ref string) (string, error) {
	r, err := a.find(ctx, c, events.KindBootimage, ref)
	if isNotFound(err) {
		return "", fmt.Errorf("%w: %w (cloudengine bootimage ls; cloudengine bootimage add DIRECTORY)", errNoImage, err)
	}
	if err != nil {
		return "", err
	}
	return r.text("id"), nil
}
