package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var vmColumns = []column{
	field("NAME", "name"), field("ACCOUNT", "account_name"), state, memory("RAM", "memory_mib"), field("VCPUS", "vcpus"),
	field("TYPE", "type"), optional("HOST", "host_name"), optional("MESSAGE", "message"),
}

var vmFields = []column{
	field("ID", "id"), field("NAME", "name"), field("ACCOUNT", "account_name"), state, field("WANTED", "wanted"),
	memory("RAM", "memory_mib"), field("VCPUS", "vcpus"), field("WEIGHT", "weight"), field("TYPE", "type"),
	field("TEMPLATE", "template_name"), field("BOOTS-FROM", "boots_from"), optional("SSH-KEYS", "ssh_keys"), optional("CMDLINE", "cmdline"), optional("HOST", "host_name"), optional("EPOCH", "epoch"),
	optional("MAX-VCPUS", "max_vcpus"), sizes,
	onHost("DOMAIN-ID", "domid"), onHost("DOMAIN-STATE", "domain_state"), onHost("DOMAIN-RAM-MIB", "domain_memory_mib"), onHost("DOMAIN-VCPUS", "domain_vcpus"),
	onHost("DOMAIN-WEIGHT", "domain_weight"), optional("RUNNING-SINCE", "running_since"), optional("UNKNOWN-SINCE", "unknown_since"),
	field("RESTARTS", "restarts"), optional("STALE-HOST", "stale_host"), optional("MESSAGE", "message"),
	optional("LAST-CONSOLE", "console_at"), field("CREATED", "created_at"), field("CHANGED-BY", "changed_by"),
}

// onHost shows what a host reports of a VM: unknown while it has a host that did not tell, and nothing while it has none.
func onHost(head, name string) column {
	return column{head, func(r row) string {
		if r["host"] == nil {
			return "-"
		}
		return r.text(name)
	}}
}

func (a *app) vmCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "vm", Short: "Virtual machines"}
	list := a.listCommand(events.KindVM, "VMs", vmColumns, "state", "host")
	list.Example = "  cloudengine vm list\n  cloudengine vm list --account demo -o json\n  cloudengine vm list --watch"
	show := a.showCommand(events.KindVM, "a VM", vmFields)
	show.Example = "  cloudengine vm show web1\n  cloudengine vm show web1 -o yaml"
	cmd.AddCommand(list, show, a.vmCreate(), a.vmResize(), a.vmStart(), a.vmShutdown(), a.vmConsole())
	for _, s := range []actOn{
		{verb: "stop", short: "Stop a VM at once, as by pulling its plug", example: "  cloudengine vm stop web1 --reason \"hangs\""},
		{verb: "reboot", short: "Make a VM's domain again, under the same grant", example: "  cloudengine vm reboot web1 --wait"},
		{verb: "pause", short: "Stop a VM's processors; its memory stays", example: "  cloudengine vm pause web1"},
		{verb: "resume", short: "Let a paused VM go on", example: "  cloudengine vm resume web1"},
		{verb: "delete", short: "Delete a VM that is stopped", example: "  cloudengine vm delete web1"},
	} {
		s.kind = events.KindVM
		cmd.AddCommand(a.actOn(s))
	}
	return cmd
}

// newVM is what "vm create" was told.
type newVM struct {
	name, typ, template, cmdline string
	ram                          mebibytes
	vcpus, maxVCPUs              int
	pool                         string
	diskSize                     mebibytes
	keys                         []string // files
	network                      string
}

func (a *app) vmCreate() *cobra.Command {
	var f intentFlags
	var v newVM
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a VM; it is stopped", Args: cobra.ExactArgs(1),
		Long: `Create a VM; it is stopped. From the template of a disk it boots from its disk xvda: with --pool that disk is made from the template
and attached in the same step, under the VM's name; without, it is yours to make (volume create --template) and to attach. Its guest is
told the VM's name and the keys of --ssh-key (cloud-init, NoCloud).`,
		Example: `  cloudengine vm create web1 --account demo --ram 4GiB --template guest
  cloudengine vm create web2 --account demo --ram 128MiB --vcpus 1 --type pvh --template guest --id order-4711
  cloudengine vm create web4 --account demo --ram 128MiB --template guest --network back
  cloudengine vm create web3 --account demo --ram 1GiB --type pvh --template debian --pool gold --disk-size 8GiB --ssh-key ~/.ssh/id_ed25519.pub --wait`,
		RunE: func(cmd *cobra.Command, words []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			v.name = words[0]
			return a.createVM(cmd.Context(), c, &f, v)
		},
	}
	f.add(cmd)
	fs := cmd.Flags()
	fs.Var(&v.ram, "ram", "exact memory: 128MiB, 4GiB")
	fs.IntVar(&v.vcpus, "vcpus", 0, "virtual processors (0: the platform's default)")
	fs.IntVar(&v.maxVCPUs, "max-vcpus", 0, "up to how many virtual processors it can be given while it runs (0: as many as it has)")
	fs.StringVar(&v.typ, "type", events.TypePV, "pv, pvh or hvm (an emulated machine: its template's kernel must be a bzImage)")
	fs.StringVar(&v.template, "template", "", "template that it is made from")
	fs.StringVar(&v.cmdline, "cmdline", "", "kernel command line instead of the template's")
	fs.StringVar(&v.pool, "pool", "", "pool in which its disk is made, from a template of a disk")
	fs.Var(&v.diskSize, "disk-size", "size of that disk; left out: that of the template's image")
	fs.StringVar(&v.network, "network", "", "network of the account that its first NIC is on; left out: it gets none")
	fs.StringArrayVar(&v.keys, "ssh-key", nil, "`file` with SSH public keys that its guest admits; may be given several times")
	a.completeFlag(cmd, "template", events.KindTemplate)
	a.completeFlag(cmd, "pool", events.KindPool)
	a.completeFlag(cmd, "network", events.KindNetwork)
	must(cmd.MarkFlagRequired("ram"))
	must(cmd.MarkFlagRequired("template"))
	return cmd
}

func (a *app) createVM(ctx context.Context, c *client.Client, f *intentFlags, v newVM) error {
	account, err := a.accountID(ctx, c)
	if err == nil && account == "" {
		account, err = a.onlyAccount(ctx, c)
	}
	if err != nil {
		return err
	}
	t, err := a.templateFor(ctx, c, account, v.template)
	if err != nil {
		return err
	}
	args := map[string]any{"account": account, "name": v.name, "type": v.typ, "memory_mib": int(v.ram), "template": t.text("id")}
	if v.vcpus != 0 {
		args["vcpus"] = v.vcpus
	}
	if v.maxVCPUs != 0 {
		args["max_vcpus"] = v.maxVCPUs
	}
	if v.cmdline != "" {
		args["cmdline"] = v.cmdline
	}
	if err := a.diskOf(ctx, c, v, args); err != nil {
		return err
	}
	if v.network != "" {
		n, err := a.get(ctx, c, events.KindNetwork, v.network, events.ReadRequest{Account: account})
		if err != nil {
			return fmt.Errorf("find network %s: %w", v.network, err)
		}
		args["network"] = n.text("id")
	}
	_, err = a.send(ctx, c, f, intent{events.KindVM, "create", args, "", v.name})
	return err
}

func must(err error) {
	if err != nil {
		panic(err) // a flag that is not there: a mistake in this program
	}
}

// onlyAccount gives the account if the user can see just one.
func (a *app) onlyAccount(ctx context.Context, c *client.Client) (string, error) {
	rows, err := a.all(ctx, c, events.KindAccount, events.ReadRequest{})
	if err != nil {
		return "", err
	}
	if len(rows) != 1 {
		return "", usagef("there are %d accounts: say which one with --account", len(rows))
	}
	return rows[0].text("id"), nil
}

// templateFor finds a template that an account may use: its own before one that is for all.
func (a *app) templateFor(ctx context.Context, c *client.Client, account, ref string) (row, error) {
	t, err := a.get(ctx, c, events.KindTemplate, ref, events.ReadRequest{Account: account})
	if isNotFound(err) {
		t, err = a.get(ctx, c, events.KindTemplate, ref, events.ReadRequest{})
	}
	if err != nil {
		return nil, fmt.Errorf("find template %s: %w", ref, err)
	}
	return t, nil
}

func (a *app) vmStart() *cobra.Command {
	var host string
	cmd := a.actOn(actOn{
		kind: events.KindVM, verb: "start", short: "Start a VM on the host that suits it best",
		example: "  cloudengine vm start web1 --wait\n  cloudengine vm start web1 --host host2",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&host, "host", "", "start it on this host and no other")
		},
		more: func(ctx context.Context, c *client.Client, args map[string]any) error {
			if host == "" {
				return nil
			}
			h, err := a.find(ctx, c, events.KindHost, host)
			if err != nil {
				return fmt.Errorf("find host %s: %w", host, err)
			}
			args["host"] = h.text("id")
			return nil
		},
	})
	a.completeFlag(cmd, "host", events.KindHost)
	return cmd
}

func (a *app) vmShutdown() *cobra.Command {
	var seconds int
	return a.actOn(actOn{
		kind: events.KindVM, verb: "shutdown", short: "Ask a VM's guest to shut down, and stop it when it does not",
		example: "  cloudengine vm shutdown web1 --wait\n  cloudengine vm shutdown web1 --guest-timeout 300",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().IntVar(&seconds, "guest-timeout", 0, "seconds until it is stopped anyway (0: the platform's default)")
		},
		more: func(_ context.Context, _ *client.Client, args map[string]any) error {
			if seconds != 0 {
				args["timeout_s"] = seconds
			}
			return nil
		},
	})
}

func (a *app) vmConsole() *cobra.Command {
	var last int
	var lastRun bool
	cmd := &cobra.Command{
		Use: "console NAME|ID", Short: "Print the end of a VM's console", Args: cobra.ExactArgs(1),
		Example:           "  cloudengine vm console web1\n  cloudengine vm console web1 --bytes 65536\n  cloudengine vm console web1 --last-run",
		ValidArgsFunction: a.complete(events.KindVM),
		RunE: func(cmd *cobra.Command, words []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTime)
			defer cancel()
			vm, err := a.find(ctx, c, events.KindVM, words[0])
			if err != nil {
				return err
			}
			answer, err := c.ConsoleOf(ctx, wire.ConsoleRequest{VM: events.VMID(vm.text("id")), Bytes: last, LastRun: lastRun})
			if err != nil {
				return err
			}
			if answer.Ended != nil {
				a.talk("of the run that ended at %s", answer.Ended.UTC().Format(time.RFC3339))
			}
			if a.output == "json" {
				return a.json(answer)
			}
			_, err = fmt.Fprintln(a.out, strings.TrimRight(printable(answer.Data), "\n"))
			return err
		},
	}
	cmd.Flags().IntVar(&last, "bytes", 4096, "how many bytes from the end, at most 65536")
	cmd.Flags().BoolVar(&lastRun, "last-run", false, "of its last run that is over, as the server keeps it for 30 days")
	return cmd
}

// printable keeps a guest from commanding the terminal: control characters are dropped, but for line ends and tabs.
func printable(b []byte) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || c >= ' ' && c != 0x7f && (c < 0x80 || c >= 0xa0) {
			return c
		}
		return -1
	}, strings.ToValidUTF8(string(b), "\uFFFD"))
}
