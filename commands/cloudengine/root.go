package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cloudengine/commands/api/client"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
)

// stdio is where the program reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// app is what all commands share: where they write, and the flags that all of them have.
type app struct {
	stdio
	server, keyFile, user string
	ca                    string
	plaintext             bool
	account               string
	output                string
	configFile            string
}

// run executes one command line and gives the exit code.
func run(ctx context.Context, args []string, io stdio) int {
	a := &app{stdio: io}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(io.err, "cloudengine:", explain(err))
	}
	return exitCode(err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cloudengine",
		Short: "Control plane of a Xen cloud",
		Long: `cloudengine runs and commands a Xen cloud. "cloudengine serve" is a managing server, "cloudengine rack up" a whole virtual
rack to try it in; all other commands talk to a server over the bus.

Flags may also come from the environment (CLOUDENGINE_SERVER for --server, and so on) or from a YAML file (--config, by default
config.yaml in the cloudengine directory of your configuration directory, else /etc/cloudengine/config.yaml), in that order of strength.
"cloudengine init" writes one.

Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 conflict, 5 refused by a guard (see --override), 6 timeout (what was begun goes on).`,
		Example: `  cloudengine serve
  cloudengine vm create web1 --account demo --ram 4GiB --template guest
  cloudengine vm start web1 --wait
  cloudengine vm list -o json`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.settings(cmd) },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.server, "server", "nats://127.0.0.1:4222", "bus addresses of the servers, comma separated")
	f.StringVar(&a.keyFile, "nkey", "data/admin.nk", "file with your nkey seed")
	f.StringVar(&a.ca, "ca", "", "file with the certificate authority of the servers (default: what is in the key file, or ca.pem beside it)")
	f.BoolVar(&a.plaintext, "unsafe-plaintext", false, "no TLS on the bus: who is on the way reads and changes everything")
	f.StringVar(&a.user, "user", "", "your user name (default: what the key file says, or its base name)")
	f.StringVar(&a.account, "account", "", "account (name or id) that names of VMs and templates belong to")
	f.StringVarP(&a.output, "output", "o", "table", "form of the output: table, json, yaml or name")
	f.StringVar(&a.configFile, "config", "", "YAML file with values of flags")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.serverCommands()...)
	root.AddCommand(a.bootimageCommand())
	root.AddCommand(a.vmCommand(), a.machineCommand(), a.hostCommand(), a.templateCommand(), a.accountCommand(), a.userCommand(),
		a.secretCommand(), a.grantCommand(), a.opCommand(), a.feedCommand(), a.watchCommand(), a.verifyCommand(), a.projectionCommand(), a.parkedCommand(), a.auditCommand(), a.logCommand(), a.serverCommand(), a.schemaCommand(), a.historyCommand(), a.whyCommand(), a.diffCommand(), a.undoCommand(), a.initCommand(), a.checkCommand(), a.caCommand(), a.serveCommand(), a.rackCommand(), a.versionCommand())
	root.AddCommand(a.storageCommands()...)
	root.AddCommand(a.networkCommands()...)
	for _, c := range root.Commands() {
		usageErrors(c)
	}
	return root
}

// usageErrors makes wrong arguments a usage error on a command and all below it, and a noun without a verb too.
func usageErrors(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
			}
			return nil
		}
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usagef("there is no %q; known: %s", cmd.CommandPath()+" "+args[0], strings.Join(names(cmd), ", "))
		}
	}
	for _, sub := range c.Commands() {
		usageErrors(sub)
	}
}

func names(cmd *cobra.Command) []string {
	var out []string
	for _, c := range cmd.Commands() {
		out = append(out, c.Name())
	}
	return out
}

// connect opens the bus as the user of the key file.
func (a *app) connect(ctx context.Context) (*client.Client, error) {
	switch a.output {
	case "table", "json", "yaml", "name":
	default:
		return nil, usagef("--output %s: want table, json, yaml or name", a.output)
	}
	seed, user, err := client.ReadKeyFile(a.keyFile)
	if err != nil {
		return nil, fmt.Errorf("%w (the first start of \"cloudengine serve\" writes admin.nk into its data directory; name it with --nkey)", err)
	}
	if a.user != "" {
		user = a.user
	}
	trust, _, err := a.trust()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.ConnectSeed(ctx, a.server, seed, user, trust, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		return nil, fmt.Errorf("%w (the server does not know the key in %s: it belongs to another server, or the user was revoked)", err, a.keyFile)
	case explainTLS(err) != nil:
		return nil, explainTLS(err)
	case err != nil:
		return nil, fmt.Errorf("%w (is \"cloudengine serve\" running there?)", err)
	}
	return c, nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Example: "  cloudengine version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, version())
			return err
		},
	}
}
