package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events/broker/certs"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// authorityDir holds the certificate authority below the data directory, unless --ca-dir names another place.
const authorityDir = "ca"

// tlsOptions say by what the server is known to those who connect.
type tlsOptions struct {
	authority string // directory
	advertise []string
}

func (o *tlsOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.authority, "ca-dir", "", "directory of the cloud's certificate authority, the same on all servers (default: ca in --data; a server alone makes it)")
	fs.StringSliceVar(&o.advertise, "advertise", nil, "more names and addresses by which this server is reached, for its certificate (those of its interfaces are in it)")
}

func (s *server) authorityDir() string {
	if dir := s.opts.tls.authority; dir != "" {
		return dir
	}
	return s.path(authorityDir)
}

// openTLS makes what this server shows to those who connect, and puts what they must trust beside the administrator's key. Nil: nothing
// is encrypted.
func (s *server) openTLS() (*certs.Server, error) {
	if databaseIsPlain(s.opts.dsn) {
		s.log.Warn("what goes to MariaDB is not encrypted: add ?tls=true to its DSN")
	}
	if s.opts.plaintext {
		s.log.Warn("THE BUS IS NOT ENCRYPTED (--unsafe-plaintext): whoever is on the way reads consoles and first passwords, and acts for users and machines")
		return nil, nil
	}
	dir := s.authorityDir()
	a, err := certs.Open(dir)
	if errors.Is(err, certs.ErrMissing) && s.opts.cluster != "" {
		return nil, fmt.Errorf("%w: several servers share one: make it on one of them (cloudengine ca create %s) and copy that directory to the others", err, dir)
	}
	if errors.Is(err, certs.ErrMissing) {
		if a, err = certs.Create(dir); err == nil {
			s.log.Info("made the certificate authority of this cloud: keep a copy of it safe", "directory", dir)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := a.Publish(s.path(client.TrustFile)); err != nil {
		return nil, err
	}
	s.trust = a.Roots()
	return certs.NewServer(a, s.names(), nil)
}

var tcpDSN = regexp.MustCompile(`@tcp\(([^)]*)\)`)

// databaseIsPlain says whether the read models travel to another machine without TLS.
func databaseIsPlain(dsn string) bool {
	m := tcpDSN.FindStringSubmatch(dsn)
	if m == nil || strings.Contains(dsn, "tls=") {
		return false
	}
	host, _, err := net.SplitHostPort(m[1])
	if err != nil {
		host = m[1]
	}
	ip := net.ParseIP(host)
	return host != "" && host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// names are those by which others are told to reach this server. Names of other servers among them do no harm: all are trusted alike.
func (s *server) names() []string {
	out := append([]string{}, s.opts.tls.advertise...)
	for _, address := range append([]string{s.opts.listen, s.opts.cluster}, s.opts.netboot.bus...) {
		if _, after, ok := strings.Cut(address, "://"); ok {
			address = after
		}
		if host, _, err := net.SplitHostPort(address); err == nil {
			out = append(out, host)
		}
	}
	if name, err := os.Hostname(); err == nil {
		out = append(out, name)
	}
	return out
}

// trust gives what the command line believes: what --ca says, or what lies in and beside the key file.
func (a *app) trust() (option nats.Option, roots []byte, err error) {
	if a.plaintext {
		a.talk("warning: --unsafe-plaintext: nothing that is said is encrypted, and nobody knows who answers")
		return client.Plaintext, nil, nil
	}
	if a.ca != "" {
		if roots, err = os.ReadFile(a.ca); err != nil {
			return nil, nil, fmt.Errorf("read --ca: %w", err)
		}
	} else if roots, err = client.ReadTrust(a.keyFile); err != nil {
		return nil, nil, err
	}
	option, err = client.Trust(roots)
	return option, roots, err
}

// explainTLS says what to do when the two sides do not find together.
func explainTLS(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("%w: the server there does not encrypt. Either something has put itself in between, or it runs with --unsafe-plaintext, and then so must you", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w (name the cloud's authority with --ca: it is ca.pem in the server's --data; without --ca it is looked for in the key file and beside it)", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w (start the server with --advertise %s, or use one of the names that it has)", err, name.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w (is this machine's clock right? It says %s)", err, time.Now().UTC().Format(time.RFC3339))
	}
	return nil
}

func (a *app) caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ca", Short: "The cloud's certificate authority, by which servers are known",
		Long: `The cloud's certificate authority, by which servers are known to users, machines and each other. A server alone makes it at its first
start, in ca below --data; its certificate for users is ca.pem in --data. Servers renew their own certificates, in memory, 30 days before
they end; nothing is to be done for that. Whoever has ca.key can pose as a server.

These commands work on files. Give the directory of the authority; the default is data/ca.`,
	}
	cmd.AddCommand(a.caCreate(), a.caShow(), a.caRotate())
	return cmd
}

func caDir(words []string) string {
	if len(words) > 0 {
		return words[0]
	}
	return filepath.Join("data", authorityDir)
}

func (a *app) caCreate() *cobra.Command {
	return &cobra.Command{
		Use: "create [DIR]", Short: "Make an authority, to be copied to all servers of a cluster", Args: cobra.MaximumNArgs(1),
		Long:    "Make an authority, to be copied (directory and file modes) to all servers of a cluster before their first start. It never replaces one.",
		Example: "  cloudengine ca create s1/ca && cp -a s1/ca s2/ca",
		RunE: func(_ *cobra.Command, words []string) error {
			made, err := certs.Create(caDir(words))
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%w: to replace it, see \"cloudengine ca rotate\"", err)
			}
			if err != nil {
				return err
			}
			return a.describeCA(made)
		},
	}
}

func (a *app) caShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [DIR]", Short: "Show which authorities are trusted, the present one first", Args: cobra.MaximumNArgs(1),
		Example: "  cloudengine ca show\n  cloudengine ca show /var/lib/cloudengine/ca",
		RunE: func(_ *cobra.Command, words []string) error {
			have, err := certs.Open(caDir(words))
			if err != nil {
				return fmt.Errorf("%w (the first start of \"cloudengine serve\" makes it)", err)
			}
			return a.describeCA(have)
		},
	}
}

func (a *app) caRotate() *cobra.Command {
	var forget bool
	cmd := &cobra.Command{
		Use: "rotate [DIR]", Short: "Replace the authority by a new one", Args: cobra.MaximumNArgs(1),
		Long: `Replace the authority by a new one. Then copy the directory to the other servers, and start the servers again, one after the other.
Clients and machines that know only the old authority go on: servers show the new one signed by the old one. Give users the new ca.pem;
machines get it when they boot. When all have it, "ca rotate --forget" and another start of each server end the trust in the old one: do
both at once if its key is in wrong hands.`,
		Example: "  cloudengine ca rotate\n  cloudengine ca rotate --forget",
		RunE: func(_ *cobra.Command, words []string) error {
			if forget {
				n, err := certs.Forget(caDir(words))
				if err == nil {
					a.talk("%d authorities are trusted no more, once the servers are started again", n)
				}
				return err
			}
			made, err := certs.Rotate(caDir(words))
			if err != nil {
				return err
			}
			return a.describeCA(made)
		},
	}
	cmd.Flags().BoolVar(&forget, "forget", false, "end the trust in the authorities before the present one")
	return cmd
}

func (a *app) describeCA(have *certs.Authority) error {
	for _, d := range have.Describe() {
		role := "trusted"
		if d.Signs {
			role = "signs"
		}
		if _, err := fmt.Fprintf(a.out, "%-8s %s until %s\n", role, d.Fingerprint, d.NotAfter.UTC().Format("2006-01-02")); err != nil {
			return err
		}
	}
	return nil
}

// addTrust puts what we trust ourselves into a key file for another.
func (a *app) addTrust(keyFile string) error {
	if a.plaintext {
		return nil
	}
	_, roots, err := a.trust()
	if err != nil || len(roots) == 0 {
		return err
	}
	return client.AddTrust(keyFile, roots)
}
