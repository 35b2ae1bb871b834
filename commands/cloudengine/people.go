package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"cloudengine/commands/api/client"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var accountColumns = []column{field("NAME", "name"), field("ID", "id"), field("CREATED", "created_at")}

var userColumns = []column{
	field("NAME", "name"), field("ROLE", "role"), optional("ACCOUNT", "account_name"), field("REVOKED", "revoked"), field("KEY", "public_key"),
}

var secretColumns = []column{field("NAME", "name"), field("VERSION", "version"), field("FINGERPRINT", "fingerprint"), field("CHANGED", "changed_at")}

func (a *app) accountCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "account", Short: "Customers: owners of VMs and names"}
	list := a.listCommand(events.KindAccount, "accounts", accountColumns)
	list.Example = "  cloudengine account list"
	show := a.showCommand(events.KindAccount, "an account", append(accountColumns, field("CHANGED-BY", "changed_by")))
	show.Example = "  cloudengine account show demo"
	cmd.AddCommand(list, show, a.accountCreate(), a.actOn(actOn{
		kind: events.KindAccount, verb: "delete", short: "Delete an account that owns nothing any more", example: "  cloudengine account delete demo",
	}))
	return cmd
}

func (a *app) accountCreate() *cobra.Command {
	var f intentFlags
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create an account", Args: cobra.ExactArgs(1), Example: "  cloudengine account create demo",
		RunE: func(cmd *cobra.Command, words []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			in := intent{events.KindAccount, "create", map[string]any{"name": words[0]}, "", words[0]}
			_, err = a.send(cmd.Context(), c, &f, in)
			return err
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) userCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "People and programs that may use the bus"}
	list := a.listCommand(events.KindUser, "users", userColumns)
	list.Example = "  cloudengine user list"
	show := a.showCommand(events.KindUser, "a user", append([]column{field("ID", "id")}, userColumns...))
	show.Example = "  cloudengine user show ann"
	cmd.AddCommand(list, show, a.userCreate(), a.actOn(actOn{
		kind: events.KindUser, verb: "revoke", short: "End a user's access at once; the name is not given again",
		example: "  cloudengine user revoke ann --reason \"left\"",
	}))
	return cmd
}

// newUser is what "user create" was told.
type newUser struct{ name, role, keyFile, public string }

func (a *app) userCreate() *cobra.Command {
	var f intentFlags
	var u newUser
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Let someone use the bus, with a new key in a file", Args: cobra.ExactArgs(1),
		Long: `Let someone use the bus. A new key is written to --key-file (default NAME.nk, mode 0600; the server never sees it) together with the
certificate authority that you trust yourself, so that the file is all that the user needs; or the public
half of a key that the user made is given with --public-key. Without --account the user sees all accounts; with it, nothing else.`,
		Example: "  cloudengine user create ann --role operate --account demo\n  cloudengine --nkey ann.nk vm list",
		RunE: func(cmd *cobra.Command, words []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			u.name = words[0]
			return a.createUser(cmd.Context(), c, &f, u)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&u.role, "role", events.RoleRead, "read, operate or admin")
	cmd.Flags().StringVar(&u.keyFile, "key-file", "", "where the new key is written; must not exist")
	cmd.Flags().StringVar(&u.public, "public-key", "", "public nkey (U…) of a key that exists")
	return cmd
}

// createUser makes the key, if none was given, and then the user. A key that nobody knows because the user was refused is removed.
func (a *app) createUser(ctx context.Context, c *client.Client, f *intentFlags, u newUser) error {
	account, err := a.accountID(ctx, c)
	if err != nil {
		return err
	}
	made := ""
	if u.public == "" {
		if f.dryRun {
			return usagef("--dry-run makes no key: give --public-key")
		}
		if made = u.keyFile; made == "" {
			made = u.name + ".nk"
		}
		if u.public, err = newKey(made, u.name); err != nil {
			return err
		}
		if err := a.addTrust(made); err != nil {
			return errors.Join(err, os.Remove(made))
		}
	}
	args := map[string]any{"name": u.name, "role": u.role, "key": u.public}
	if account != "" {
		args["account"] = account
	}
	_, err = a.send(ctx, c, f, intent{events.KindUser, "create", args, "", u.name})
	var no *client.Refusal
	switch {
	case errors.As(err, &no) && made != "":
		return errors.Join(err, os.Remove(made))
	case err == nil && made != "":
		a.talk("key written to %s", made)
	}
	return err
}

// newKey makes a key file, and never replaces one.
func newKey(path, user string) (public string, err error) {
	public, err = client.WriteKeyFile(path, user)
	if errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("%w: remove it, name another with --key-file, or give --public-key", err)
	}
	return public, err
}

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secret", Short: "Passwords that servers need, such as those of BMCs"}
	list := a.listCommand(events.KindSecret, "secrets; values are never shown", secretColumns)
	list.Example = "  cloudengine secret list"
	show := a.showCommand(events.KindSecret, "a secret; its value is never shown", append(secretColumns[:len(secretColumns):len(secretColumns)], field("CHANGED-BY", "changed_by")))
	show.Example = "  cloudengine secret show host1-bmc"
	cmd.AddCommand(list, show, a.secretSet())
	return cmd
}

func (a *app) secretSet() *cobra.Command {
	var f intentFlags
	var file string
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Give a secret a value, from a file or standard input", Args: cobra.ExactArgs(1),
		Long: `Give a secret a value, from a file or standard input. One line end at the end is dropped. The value is sealed by the server and never
enters the log; a keyed fingerprint of it does.`,
		Example: "  cloudengine secret set host1-bmc --file password.txt\n  pass show host1 | cloudengine secret set host1-bmc",
		RunE: func(cmd *cobra.Command, words []string) error {
			if f.dryRun || len(f.override) > 0 {
				return usagef("secret set knows neither --dry-run nor --override")
			}
			value, err := a.secretValue(file)
			if err != nil {
				return err
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			return a.setSecret(cmd.Context(), c, &f, words[0], value)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&file, "file", "", "file with the value (default: standard input)")
	return cmd
}

func (a *app) setSecret(ctx context.Context, c *client.Client, f *intentFlags, name string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	id := client.NewID()
	if f.id != "" {
		id = events.FreeFormID(c.Actor(), f.id)
	}
	a.talk("intent %s", id)
	answer, err := c.SetSecret(ctx, name, value, client.WithID(id), client.WithReason(f.reason))
	if err != nil {
		return err
	}
	return a.told(answer, intent{events.KindSecret, "set", nil, "", name}, false)
}

func (a *app) secretValue(file string) ([]byte, error) {
	in := a.in
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read value: %w", err)
		}
		defer f.Close()
		in = f
	}
	value, err := io.ReadAll(io.LimitReader(in, wire.MaxSecret+3))
	if err != nil {
		return nil, fmt.Errorf("read value: %w", err)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r")), nil
}
