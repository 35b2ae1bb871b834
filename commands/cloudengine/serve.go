package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"cloudengine/commands"
	"cloudengine/events"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// serveOptions say how a server runs.
type serveOptions struct {
	data, listen, http string
	name               string
	cluster            string
	routes             []string
	clusterSecretFile  string
	dsn, dsnFile       string
	unsafeNoFsync      bool
	rebuild            bool
	logLevel           string
	silence            time.Duration
	netboot            netbootOptions
	alerts             alertOptions
	tls                tlsOptions
	plaintext          bool
}

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "Run a managing server", Args: cobra.NoArgs,
		Long: `Run a managing server: the bus, the log, the dispatcher, the read models and, with --netboot-interface, the service that machines
boot from. It needs neither root nor any other service; MariaDB is started privately unless --mysql-dsn names one. The first start
makes the log and writes admin.nk, the key of the user admin, into --data. Ctrl-C stops it in order.

The bus is encrypted: the first start makes the cloud's certificate authority (ca in --data) and writes what users must trust, ca.pem,
beside admin.nk; give both to them ("user create" puts both into one file). See "cloudengine ca".

Three servers: give each its own --name and --data, and all of them the same --cluster-secret-file, --routes and authority ("cloudengine
ca create", then copy it).`,
		Example: `  cloudengine serve
  cloudengine serve --data /var/lib/cloudengine --listen 10.0.0.1:4222 --http 10.0.0.1:8080 --netboot-interface eth1 --image /srv/image
  cloudengine serve --name s1 --data s1 --listen 10.0.0.1:4222 --cluster 10.0.0.1:6222 --routes 10.0.0.1:6222,10.0.0.2:6222,10.0.0.3:6222 --cluster-secret-file secret`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd.Flags().Changed("mysql-dsn") && os.Getenv(envName("mysql-dsn")) == ""); err != nil {
				return err
			}
			var level slog.Level
			if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
				return usagef("--log-level %s: want debug, info, warn or error", o.logLevel)
			}
			o.plaintext = a.plaintext
			log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
			return serve(cmd.Context(), o, log)
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

func (o *serveOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.data, "data", "data", "directory of everything that is kept")
	fs.StringVar(&o.listen, "listen", "127.0.0.1:4222", "where the bus listens for clients and machines")
	fs.StringVar(&o.http, "http", "127.0.0.1:8080", "where HTTP listens (health; what machines boot); empty: nowhere")
	fs.StringVar(&o.name, "name", "s1", "name of this server, unique among the servers")
	fs.StringVar(&o.cluster, "cluster", "", "where this server listens for the others; empty: it is alone")
	fs.StringSliceVar(&o.routes, "routes", nil, "cluster addresses of all servers")
	fs.StringVar(&o.clusterSecretFile, "cluster-secret-file", "", "file with what the servers know each other by; needed unless they are on loopback")
	fs.StringVar(&o.dsn, "mysql-dsn", "", "MariaDB for the read models (user@tcp(host:3306)/database); a password goes into --mysql-dsn-file or the environment")
	fs.StringVar(&o.dsnFile, "mysql-dsn-file", "", "file with the DSN of MariaDB")
	fs.BoolVar(&o.unsafeNoFsync, "unsafe-no-fsync", false, "acknowledge before the disk has it: a power failure loses acknowledged decisions")
	fs.BoolVar(&o.rebuild, "rebuild", false, "build the read models anew from the log before they are used, also if they seem to be of another log")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.DurationVar(&o.silence, "silence", 30*time.Second, "after how long without a sign of life a machine counts as silent")
	o.netboot.flags(fs)
	o.alerts.flags(fs)
	o.tls.flags(fs)
}

// check finds mistakes that can be told before anything is started. onCommandLine says that the DSN was given where others see it.
func (o *serveOptions) check(onCommandLine bool) error {
	for flag, address := range map[string]string{"listen": o.listen, "http": o.http, "cluster": o.cluster} {
		if address == "" && flag != "listen" {
			continue
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return usagef("--%s %s: want host:port", flag, address)
		}
	}
	if !regexp.MustCompile(commands.ArgsLimits().Name).MatchString(o.name) {
		return usagef("--name %s: want 1 to 63 of a-z, 0-9 and \"-\", with a letter or digit at both ends", o.name)
	}
	if (o.cluster == "") != (len(o.routes) == 0) {
		return usagef("--cluster and --routes belong together")
	}
	if o.http == "" && o.netboot.on() {
		return usagef("machines boot over HTTP: --http must not be empty")
	}
	if user, _, ok := strings.Cut(o.dsn, "@"); ok && onCommandLine && strings.Contains(user, ":") {
		return usagef("--mysql-dsn holds a password, which others can see on the command line: use --mysql-dsn-file or %s", envName("mysql-dsn"))
	}
	if o.dsnFile != "" {
		raw, err := os.ReadFile(o.dsnFile)
		if err != nil {
			return fmt.Errorf("read --mysql-dsn-file: %w", err)
		}
		o.dsn = strings.TrimSpace(string(raw))
	}
	return nil
}

// secret reads what the servers know each other by.
func (o *serveOptions) secret() (string, error) {
	if o.clusterSecretFile == "" {
		return "", nil
	}
	raw, err := os.ReadFile(o.clusterSecretFile)
	if err != nil {
		return "", fmt.Errorf("read --cluster-secret-file: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// serve runs a server until ctx ends or a part of it fails.
func serve(ctx context.Context, o serveOptions, log *slog.Logger) error {
	unlock, err := lockData(o.data)
	if err != nil {
		return err
	}
	defer unlock()
	if err := events.Validate(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	warnings, err := preflight(ctx, o)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, w := range warnings {
		log.Warn("see \"cloudengine check\"", "check", w.Check, "found", w.Message, "mend", w.Mend)
	}
	s := &server{opts: o, log: log, parts: newSupervisor(log), activity: newActivity(), machinesChanged: make(chan struct{}, 1)}
	if err = s.start(ctx); err == nil {
		log.Info("ready", "bus", s.plane.Bus.ClientURL(), "http", o.http, "key", filepath.Join(o.data, adminKeyFile))
		s.parts.run("service manager", s.watchdog)
		err = s.parts.wait(ctx)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // stopped while starting
	}
	log.Info("stopping")
	return errors.Join(err, s.parts.stop())
}
