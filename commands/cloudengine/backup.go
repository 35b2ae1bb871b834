package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/commands/backup"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// outsideDir gets, in a restored data directory, what a backup holds of files outside of it.
const outsideDir = "outside"

func (a *app) backupCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use: "backup [FILE|DIR]", Short: "Keep all of a server that cannot be derived in one file", Args: cobra.MaximumNArgs(1),
		Annotations: map[string]string{readsSection: "serve"},
		Long: `Write a backup: the log up to now, byte for byte; the blobs; the sealed secrets, the master key, the authority and all else that lies in
the data directory and does not follow from the log; the configuration and the secret files that it names. Run it on the server's host.
The server goes on meanwhile; if it does not run, its files are read and it is kept from starting. In a directory, the file gets a name
with the time. It is of mode 0600, and holds every key of the cloud: encrypt it before it leaves the house.

MariaDB, FEED and DESIRED are made anew from the log and are not in it. In a cluster, blobs and secrets lie
on the server that was active when they came: back up each, exit code 1 says what one lacks.
The log of a backup for "audit check": zstd -dc FILE | tar -xO log`,
		Example: "  cloudengine backup\n  cloudengine backup /var/backups --config /etc/cloudengine/config.yaml\n  cloudengine backup monday.backup --data /var/lib/cloudengine -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			to := "."
			if len(args) > 0 {
				to = args[0]
			}
			return a.backUp(cmd, o, to)
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

func (a *app) backUp(cmd *cobra.Command, o serveOptions, to string) error {
	now := time.Now()
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		to = filepath.Join(to, "cloudengine-"+now.UTC().Format("20060102T150405Z")+".backup")
	}
	if info, err := os.Stat(o.data); err != nil || !info.IsDir() {
		return usagef("--data %s: there is no data directory (%v)", o.data, err)
	}
	log, done, err := a.logOf(cmd, o.data)
	if err != nil {
		return err
	}
	defer done()
	m, err := backup.Create(cmd.Context(), to, backup.Source{
		Data: o.data, Derived: derivedFiles, Outside: outsideOf(o, a.configFile), Log: log, Version: version(), Now: now, Progress: a.progress(),
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(a.out, to); err != nil {
		return err
	}
	a.tellBackup(m)
	if len(m.Missing) > 0 {
		return fmt.Errorf("%s was written, but this server does not have all that the log names: %s (blobs and secrets are on the server that was active when they came: back that up too)", to, strings.Join(m.Missing, ", "))
	}
	return nil
}

func (a *app) tellBackup(m backup.Manifest) {
	var size int64
	for _, f := range m.Files {
		size += f.Size
	}
	a.talk("%d files, %d MiB; the log to decision %d of %s, term %d, head %s", len(m.Files), size>>20, m.Log.Number, m.Log.Time.UTC().Format(time.RFC3339), m.Log.Term, m.Log.Head)
}

// progress prints what is being done, at most once a second.
func (a *app) progress() backup.Progress {
	last := time.Now()
	return func(entry string, done, all uint64) {
		if time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		if all > 0 {
			a.talk("%s: block %d of %d (%d %%)", entry, done, all, 100*done/all)
			return
		}
		a.talk("%s", entry)
	}
}

// readsLog gives the blocks of a log, as backup.Source wants it.
type readsLog = func(context.Context, func(seq, last uint64, payload []byte) error) error

// logOf says where the log is read: from the server that runs on the data directory, else from its files. done must be called.
func (a *app) logOf(cmd *cobra.Command, data string) (log readsLog, done func(), err error) {
	unlock, err := lockData(data)
	if err == nil {
		streams := filepath.Join(data, "streams")
		if _, err := os.Stat(streams); err != nil {
			unlock()
			return nil, nil, fmt.Errorf("read the log: %w (%s is no data directory of a server that ever ran)", err, data)
		}
		if _, err := os.Stat(filepath.Join(streams, "jetstream", "$SYS")); err == nil {
			unlock()
			return nil, nil, fmt.Errorf("%s is of a server of a cluster, whose files alone are not the log: start it, or back up another of them", data)
		}
		a.talk("no server runs on %s: its files are read", data)
		return backup.ReadStream(streams), unlock, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil, err
	}
	if !cmd.Flags().Changed("server") { // a virtual rack's is reached by a forward, not where it listens
		if a.server = endpointsOf(data); a.server == "" {
			return nil, nil, fmt.Errorf("a server uses %s and does not say where it is: is it still starting?", data)
		}
	}
	if !cmd.Flags().Changed("nkey") {
		a.keyFile = filepath.Join(data, adminKeyFile)
	}
	c, err := a.connect(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	return exported(c), c.Close, nil
}

func exported(c *client.Client) readsLog {
	return func(ctx context.Context, f func(seq, last uint64, payload []byte) error) error {
		return c.Export(ctx, f)
	}
}

// outsideOf lists what the configuration names outside of the data directory, and itself.
func outsideOf(o serveOptions, config string) map[string]string {
	out := map[string]string{}
	for name, path := range map[string]string{
		"config.yaml": config, "cluster-secret-file": o.clusterSecretFile, "mysql-dsn-file": o.dsnFile, "ca-dir": o.tls.authority,
		"alert-webhook-secret-file": o.alerts.webhookSecret, "alert-mail-password-file": o.alerts.password, "alert-mail-ca": o.alerts.ca,
	} {
		if _, err := os.Stat(path); path != "" && err == nil && !within(o.data, path) {
			out[name] = path
		}
	}
	return out
}

func within(dir, path string) bool {
	d, err1 := filepath.Abs(dir)
	p, err2 := filepath.Abs(path)
	rel, err3 := filepath.Rel(d, p)
	return errors.Join(err1, err2, err3) == nil && filepath.IsLocal(rel)
}

func (a *app) restoreCommand() *cobra.Command {
	var data, own string
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Lay out a new data directory from a backup", Args: cobra.ExactArgs(1),
		Annotations: map[string]string{readsSection: "serve"},
		Long: `Verify a backup, all digests and the chain of the log, and lay out a data directory from it. The directory must be empty or not there;
it is complete afterwards, or as it was. The next "cloudengine serve" on it begins a new term of the log, and starts nothing before it
knows what runs: see "cloudengine log". What the backup holds of files outside the data directory is in its folder "outside".

Never let the old server run again beside the restored one. What was decided after the backup is lost; machines say what they run.
The restored server is alone: make a cluster anew with empty other servers only after it is settled.`,
		Example: "  cloudengine restore monday.backup --data /var/lib/cloudengine --owner cloudengine",
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := lookUpOwner(own)
			if err != nil {
				return err
			}
			m, err := backup.Restore(cmd.Context(), args[0], backup.Target{
				Data: data, Load: backup.LoadStream, Mark: restoredFile, Outside: outsideDir, Now: time.Now(), Progress: a.progress(),
			})
			if errors.Is(err, backup.ErrNotEmpty) {
				return fmt.Errorf("%w: name another with --data; a restore never replaces anything", err)
			}
			if err != nil {
				return err
			}
			if err := giveTree(data, o); err != nil {
				return err
			}
			a.tellBackup(m)
			a.talk("next: cloudengine serve --data %s, then cloudengine log status", data)
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "data", "data directory that is made")
	cmd.Flags().StringVar(&own, "owner", "", "user that will run the server and gets what is made; as root")
	return cmd
}

// giveTree gives all files below a directory to an owner.
func giveTree(dir string, o *owner) error {
	if o == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("give %s to its owner: %w", path, err)
		}
		return o.give(path)
	})
}
