package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"cloudengine/commands/api/client"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
)

// initOptions say what is made.
type initOptions struct {
	serve serveOptions
	owner string
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use: "init", Short: "Make the data directory, the key of the user admin and the configuration of a server", Args: cobra.NoArgs,
		Annotations: map[string]string{readsSection: "serve", makesConfig: "yes"},
		Long: `Make what "cloudengine serve" needs: the data directory (--data), in it the key of the user admin, and a configuration file (--config)
that holds the flags of serve given here. What is there already stays as it is, so that a second init changes nothing; a file that
says something else than the flags, and a directory that is not a server's, are refused. As root, --owner gives all of it to the user
that will run the server.`,
		Example: `  cloudengine init
  cloudengine init --data /var/lib/cloudengine --config /etc/cloudengine/config.yaml --owner cloudengine --listen 10.0.0.1:4222 --http 10.0.0.1:8080 --netboot-interface eth1 --image /srv/image`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.serve.check(false); err != nil {
				return err
			}
			return a.initServer(cmd, o)
		},
	}
	o.serve.flags(cmd.Flags())
	cmd.Flags().StringVar(&o.owner, "owner", "", "user that will run the server and gets what is made; as root")
	return cmd
}

func (a *app) initServer(cmd *cobra.Command, o initOptions) error {
	if a.configFile == "" {
		a.configFile = ownConfig()
	}
	data, err := filepath.Abs(o.serve.data)
	if err != nil {
		return fmt.Errorf("find data directory: %w", err)
	}
	owner, err := lookUpOwner(o.owner)
	if err != nil {
		return err
	}
	body, err := configText(cmd, data)
	if err != nil {
		return err
	}
	if err := isOurs(data); err != nil {
		return err
	}
	madeConfig, err := makeConfig(a.configFile, body)
	if err != nil {
		return err
	}
	madeKey, err := makeData(data, owner)
	if err != nil {
		return err
	}
	key := filepath.Join(data, adminKeyFile)
	tell := func(made bool, what, path string) {
		word := "is there already"
		if made {
			word = "made"
		}
		a.talk("%s %s: %s", what, path, word)
	}
	tell(madeKey, "data directory with the key of the user admin", data)
	tell(madeConfig, "configuration", a.configFile)
	a.talk(`next:
  cloudengine check --config %[1]s      # what this machine lacks, and how to mend it
  cloudengine serve --config %[1]s      # with the package: systemctl enable --now cloudengine
  cloudengine user list --nkey %[2]s
Keep a copy of %[2]s elsewhere: nobody can make this key again. "cloudengine backup" holds it too.`, a.configFile, key)
	return nil
}

// ownConfig is where init writes if nothing says otherwise.
func ownConfig() string {
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "cloudengine", "config.yaml")
	}
	return hostConfig
}

// owner is who gets what is made.
type owner struct{ uid, gid int }

func lookUpOwner(name string) (*owner, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, usagef("--owner %s: %w", name, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return &owner{uid, gid}, errors.Join(err1, err2)
}

// give gives files to the owner, if there is one.
func (o *owner) give(paths ...string) error {
	if o == nil {
		return nil
	}
	for _, p := range paths {
		if err := os.Lchown(p, o.uid, o.gid); err != nil {
			return fmt.Errorf("give %s to its owner: %w", p, err)
		}
	}
	return nil
}

// ours are files by which a data directory of ours is known.
var ours = []string{adminKeyFile, authorityDir, "lock", "streams", restoredFile}

// isOurs refuses a directory with something else in it.
func isOurs(data string) error {
	list, err := os.ReadDir(data)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(list) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into data directory: %w", err)
	}
	for _, name := range ours {
		if _, err := os.Lstat(filepath.Join(data, name)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is not empty and no data directory of a server (%s is in it): name another with --data", data, list[0].Name())
}

// makeData makes the directory and the key. A directory with a log in it has its administrator already: the key is not made again.
func makeData(data string, o *owner) (made bool, err error) {
	if _, err := os.Lstat(filepath.Join(data, "streams")); err == nil {
		return false, nil
	}
	if err := os.MkdirAll(data, 0o750); err != nil {
		return false, fmt.Errorf("make data directory: %w", err)
	}
	key := filepath.Join(data, adminKeyFile)
	_, err = client.WriteKeyFile(key, "admin")
	switch {
	case errors.Is(err, os.ErrExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, o.give(data, key)
}

// configText gives the file: the flags of serve that were given, below serve, and how the command line reaches this server.
func configText(cmd *cobra.Command, data string) ([]byte, error) {
	var known pflag.FlagSet
	(&serveOptions{}).flags(&known)
	serve := map[string]any{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch v, list := f.Value.(pflag.SliceValue); {
		case known.Lookup(f.Name) == nil || !f.Changed && f.Name != "listen" && f.Name != "http":
		case list:
			serve[f.Name] = v.GetSlice()
		default:
			serve[f.Name] = f.Value.String()
		}
	})
	serve["data"] = data
	if user, _, ok := strings.Cut(fmt.Sprint(serve["mysql-dsn"]), "@"); ok && strings.Contains(user, ":") {
		return nil, usagef("--mysql-dsn holds a password, and the configuration is for all to read: use --mysql-dsn-file")
	}
	listen, _ := cmd.Flags().GetString("listen")
	tree := map[string]any{"server": "nats://" + listen, "nkey": filepath.Join(data, adminKeyFile), "serve": serve}
	var out bytes.Buffer
	out.WriteString("# Flags of cloudengine, by name; those of one command stand below its name. See \"cloudengine serve --help\".\n")
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(tree); err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return out.Bytes(), enc.Close()
}

// makeConfig writes the file, unless it is there. The flags were read from it then, and fit unless the command line said otherwise.
func makeConfig(path string, body []byte) (made bool, err error) {
	have, err := os.ReadFile(path)
	if err == nil {
		return false, sameConfig(path, have, body)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("read configuration: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("make folder of the configuration: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return false, fmt.Errorf("make configuration: %w", err)
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, fmt.Errorf("write configuration: %w", err)
	}
	return true, nil
}

// sameConfig says whether all that would be written is in the file already.
func sameConfig(path string, have, want []byte) error {
	var h, w struct{ Serve map[string]any }
	if err := errors.Join(yaml.Unmarshal(have, &h), yaml.Unmarshal(want, &w)); err != nil {
		return fmt.Errorf("read configuration %s: %w", path, err)
	}
	for key, value := range w.Serve {
		was, ok := h.Serve[key]
		if !ok && (key == "listen" || key == "http") { // serve's own default, or above serve
			continue
		}
		if key == "data" && ok {
			if abs, err := filepath.Abs(fmt.Sprint(was)); err == nil {
				was = abs
			}
		}
		if fmt.Sprint(was) != fmt.Sprint(value) {
			return fmt.Errorf("%s is there and says another --%s (%v, not %v): it is not overwritten; edit it, or name another with --config", path, key, was, value)
		}
	}
	return nil
}
