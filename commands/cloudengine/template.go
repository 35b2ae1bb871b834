package main

import (
	"context"
	"errors"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/commands/diskimage"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var templateColumns = []column{
	field("NAME", "name"), optional("ACCOUNT", "account_name"), field("TYPE", "type"), memory("MIN-RAM", "min_memory_mib"),
	optional("KERNEL-BYTES", "kernel_size"), optional("RAMDISK-BYTES", "ramdisk_size"), optional("DISK-BYTES", "disk_bytes"),
}

var templateFields = append([]column{field("ID", "id")}, append(templateColumns[:len(templateColumns):len(templateColumns)],
	optional("KERNEL", "kernel_sha256"), optional("RAMDISK", "ramdisk_sha256"), optional("CMDLINE", "cmdline"),
	optional("DISK", "disk_sha256"), optional("DISK-PACKED-BYTES", "disk_size"), optional("DISK-CONTENT", "disk_content_sha256"),
	field("CREATED", "created_at"), field("CHANGED-BY", "changed_by"))...)

func (a *app) templateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "template", Short: "What VMs are made from"}
	list := a.listCommand(events.KindTemplate, "templates", templateColumns)
	list.Example = "  cloudengine template list"
	show := a.showCommand(events.KindTemplate, "a template", templateFields)
	show.Example = "  cloudengine template show guest"
	cmd.AddCommand(list, show, a.templateImport(), a.actOn(actOn{
		kind: events.KindTemplate, verb: "delete", short: "Delete a template; VMs that were made from it keep what they need",
		example: "  cloudengine template delete guest",
	}))
	return cmd
}

func (a *app) templateImport() *cobra.Command {
	var f intentFlags
	t := templateFiles{}
	cmd := &cobra.Command{
		Use: "import NAME", Short: "Upload files and make a template of them, or put a template's image into a pool", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(events.KindTemplate),
		Long: `Upload a kernel and a ramdisk, or the image of a disk, and make a template of them. An upload that broke off goes on where it ended; what
the server has is not sent again. Without --account the template is for all accounts.

The image of a disk is raw or qcow2, plain or packed by gzip, xz or zstd: what it is is found out by what is in it. It is packed anew
for the server (raw, zstd), in a temporary file in the user's cache directory. From a URL it is downloaded there, goes on where an earlier
download broke off, and must have the digest that --sha256 gives. Volumes are made from it (volume create --template), and VMs boot from
those (vm create --template NAME --pool POOL).

With --pool the image is put onto each array of that pool as a golden volume (volume list), which volumes are copied from then; without
files the template must be there. That is done by itself for the first volume that is made from a template on an array. One that has failed is tried
again at once. With --wait it is told how far it is; give --timeout too.`,
		Example: `  cloudengine template import guest --kernel bin/guest/vmlinux --ramdisk bin/guest/guest.img --cmdline console=hvc0 --min-ram 96MiB
  cloudengine template import debian --disk debian-12-genericcloud-amd64.qcow2 --min-ram 256MiB
  cloudengine template import debian --disk https://images.example.com/debian-12.qcow2 --sha256 DIGEST --min-ram 256MiB
  cloudengine template import debian --pool gold --wait --timeout 1h`,
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := t.check(); err != nil {
				return err
			}
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			if t.account, err = a.accountID(ctx, c); err != nil {
				return err
			}
			if t.pool != "" && t.kernel == "" && t.disk.file == "" {
				made, err := a.templateFor(ctx, c, t.account, words[0])
				if err != nil {
					return err
				}
				return a.importTo(ctx, c, &f, made, t.pool)
			}
			answer, err := a.importTemplate(ctx, c, &f, words[0], t)
			if err != nil || t.pool == "" || f.dryRun {
				return err
			}
			return a.importTo(ctx, c, &f, row{"id": string(answer.ID), "name": words[0]}, t.pool)
		},
	}
	f.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&t.kernel, "kernel", "", "kernel file")
	fs.StringVar(&t.ramdisk, "ramdisk", "", "ramdisk file")
	fs.StringVar(&t.cmdline, "cmdline", "", "kernel command line")
	fs.StringVar(&t.disk.file, "disk", "", "image of a disk instead: a file or an http(s) URL")
	fs.StringVar(&t.disk.format, "format", diskimage.Auto, "format of that image: auto, raw or qcow2")
	fs.StringVar(&t.disk.sha256, "sha256", "", "SHA-256 of the file at the URL")
	fs.Var(&t.minRAM, "min-ram", "least memory of a VM that is made from it")
	must(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{diskimage.Auto, diskimage.Raw, diskimage.Qcow2}, cobra.ShellCompDirectiveNoFileComp)))
	fs.StringVar(&t.pool, "pool", "", "pool onto whose arrays its image is put")
	a.completeFlag(cmd, "pool", events.KindPool)
	return cmd
}

// templateFiles is what a template is made of.
type templateFiles struct {
	account, kernel, ramdisk, cmdline string
	pool                              string
	minRAM                            mebibytes
	disk                              diskSource
}

// check finds what is wrong with flags before anything is done.
func (t templateFiles) check() error {
	switch {
	case t.kernel == "" && t.disk.file == "" && t.pool != "":
		if t.ramdisk != "" || t.cmdline != "" || t.minRAM != 0 || t.disk.sha256 != "" {
			return usagef("without --disk the template must be there, and has all but its --pool already")
		}
		return nil
	case t.kernel == "" && t.disk.file == "":
		return usagef("say what it is made of: --kernel, or --disk")
	case t.minRAM == 0:
		return usagef("say the least memory of a VM that is made from it: --min-ram")
	case t.pool != "" && t.disk.file == "":
		return usagef("--pool is for a template of a disk")
	case t.disk.file == "":
		return nil
	case t.kernel != "" || t.ramdisk != "" || t.cmdline != "":
		return usagef("a template of a disk has no --kernel, --ramdisk and --cmdline: they are on the disk")
	}
	return t.disk.check()
}

func (a *app) importTemplate(ctx context.Context, c *client.Client, f *intentFlags, name string, t templateFiles) (events.Answer, error) {
	args := map[string]any{"name": name, "type": events.TemplateKernel, "min_memory_mib": int(t.minRAM)}
	if t.account != "" {
		args["account"] = t.account
	}
	if t.cmdline != "" {
		args["cmdline"] = t.cmdline
	}
	if t.disk.file != "" {
		if err := a.diskArgs(ctx, c, t.disk, args); err != nil {
			return events.Answer{}, err
		}
		return a.send(ctx, c, f, intent{events.KindTemplate, "create", args, "", name})
	}
	for field, path := range map[string]string{"kernel": t.kernel, "ramdisk": t.ramdisk} {
		if path == "" {
			continue
		}
		blob, err := a.upload(ctx, c, field, path)
		if err != nil {
			return events.Answer{}, err
		}
		args[field] = blob
	}
	return a.send(ctx, c, f, intent{events.KindTemplate, "create", args, "", name})
}

// upload sends a file, telling of it now and then.
func (a *app) upload(ctx context.Context, c *client.Client, what, path string) (events.Blob, error) {
	var told time.Time
	blob, err := c.PutFile(ctx, path, func(done, total int64) {
		if done == total || time.Since(told) > 2*time.Second {
			told = time.Now()
			a.talk("upload %s %s: %d of %d KiB", what, path, done>>10, total>>10)
		}
	})
	if errors.Is(err, context.Canceled) {
		a.talk("the upload goes on where it ended when you repeat the command")
	}
	return blob, err
}

func isNotFound(err error) bool {
	var no *client.Refusal
	return errors.As(err, &no) && no.Outcome.Code == events.CodeNotFound
}
