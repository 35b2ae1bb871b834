package certs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"cloudengine/events/broker/certs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T) (*certs.Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := certs.Create(dir)
	must(t, err)
	return a, dir
}

func server(t *testing.T, a *certs.Authority, now func() time.Time, names ...string) *certs.Server {
	t.Helper()
	s, err := certs.NewServer(a, names, now)
	must(t, err)
	return s
}

// serve answers each connection with what it says, until the test ends.
func serve(t *testing.T, conf *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s := tls.Server(c, conf)
				b := make([]byte, 64)
				for {
					n, err := s.Read(b)
					if err != nil {
						return
					}
					if _, err := s.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// talk says a word and wants it back.
func talk(c *tls.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	b := make([]byte, 4)
	if _, err := c.Read(b); err != nil {
		return err
	}
	if string(b) != "word" {
		return errors.New("another word came back")
	}
	return nil
}

func dial(t *testing.T, address string, conf *tls.Config) (*tls.Conn, error) {
	t.Helper()
	c, err := tls.Dial("tcp", address, conf)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, talk(c)
}

func trusting(roots []byte) *tls.Config {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(roots)
	return &tls.Config{RootCAs: p, MinVersion: tls.VersionTLS13}
}

func TestAuthorityIsMadeOnceAndKeptPrivate(t *testing.T) {
	a, dir := create(t)
	if _, err := certs.Create(dir); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("made again: %v", err)
	}
	st, err := os.Stat(filepath.Join(dir, certs.KeyFile))
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Fatalf("key has mode %v", st.Mode())
	}
	b, err := certs.Open(dir)
	must(t, err)
	if !bytes.Equal(a.Roots(), b.Roots()) || bytes.Contains(a.Roots(), []byte("PRIVATE")) {
		t.Fatalf("roots changed, or tell the key:\n%s", b.Roots())
	}
	must(t, os.Chmod(filepath.Join(dir, certs.KeyFile), 0o640))
	if _, err := certs.Open(dir); err == nil {
		t.Fatal("a key that others can read was taken")
	}
}

func TestMissingAndDamaged(t *testing.T) {
	if _, err := certs.Open(t.TempDir()); !errors.Is(err, certs.ErrMissing) {
		t.Fatalf("no authority: %v", err)
	}
	_, dir := create(t)
	_, other := create(t)
	must(t, os.Remove(filepath.Join(dir, certs.RootsFile))) // as after a crash
	if _, err := certs.Open(dir); err != nil {
		t.Fatalf("the certificate was not made again: %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(other, certs.RootsFile))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, certs.RootsFile), raw, 0o644))
	if _, err := certs.Open(dir); err == nil {
		t.Fatal("the certificate of another key was taken")
	}
	must(t, os.WriteFile(filepath.Join(dir, certs.RootsFile), []byte("rubbish"), 0o644))
	if _, err := certs.Open(dir); err == nil {
		t.Fatal("rubbish was taken")
	}
}

// TestRenewalDropsNothing lives through half a year: the certificate is another one in time, and a connection from before goes on.
func TestRenewalDropsNothing(t *testing.T) {
	a, _ := create(t)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	address := serve(t, server(t, a, now).Clients(nil))
	conf := trusting(a.Roots())
	conf.Time = now
	old, err := dial(t, address, conf)
	must(t, err)
	seen := map[string]bool{}
	for day := range 180 {
		ahead.Store(int64(day) * int64(24*time.Hour))
		c, err := dial(t, address, conf)
		must(t, err)
		seen[c.ConnectionState().PeerCertificates[0].SerialNumber.String()] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d certificates in 180 days, want 3", len(seen))
	}
	must(t, talk(old))
}

// TestClockOfTheFirstHour connects with a clock that stands in the past, as a machine without one of its own has at its boot.
func TestClockOfTheFirstHour(t *testing.T) {
	a, _ := create(t)
	conf := trusting(a.Roots())
	conf.Time = func() time.Time { return time.Now().AddDate(-4, 0, 0) }
	_, err := dial(t, serve(t, server(t, a, nil).Clients(nil)), conf)
	must(t, err)
}

func TestNames(t *testing.T) {
	a, _ := create(t)
	address := serve(t, server(t, a, nil, "cloud.example", "192.0.2.7", "", "0.0.0.0").Clients(nil))
	for name, good := range map[string]bool{"cloud.example": true, "192.0.2.7": true, "127.0.0.1": true, "localhost": true, "other.example": false} {
		conf := trusting(a.Roots())
		conf.ServerName = name
		if _, err := dial(t, address, conf); (err == nil) != good {
			t.Errorf("as %s: %v", name, err)
		}
	}
}

// TestRotation has clients of before and of after a rotation meet the server of after it.
func TestRotation(t *testing.T) {
	old, dir := create(t)
	_, err := certs.Rotate(dir)
	must(t, err)
	twice, err := certs.Rotate(dir)
	must(t, err)
	address := serve(t, server(t, twice, nil).Clients(nil))
	_, err = dial(t, address, trusting(old.Roots()))
	must(t, err)
	_, err = dial(t, address, trusting(twice.Roots()))
	must(t, err)
	if n, err := certs.Forget(dir); err != nil || n != 2 {
		t.Fatalf("forgot %d: %v", n, err)
	}
	last, err := certs.Open(dir)
	must(t, err)
	address = serve(t, server(t, last, nil).Clients(nil))
	if _, err = dial(t, address, trusting(old.Roots())); err == nil {
		t.Fatal("a client that knows only the forgotten authority believes the server")
	}
	_, err = dial(t, address, trusting(twice.Roots()))
	must(t, err)
	if _, err := dial(t, serve(t, server(t, old, nil).Clients(nil)), trusting(last.Roots())); err == nil {
		t.Fatal("a server with a stolen, forgotten key is believed")
	}
}

// TestPeers has those call who are no servers of this cloud.
func TestPeers(t *testing.T) {
	a, _ := create(t)
	s := server(t, a, nil)
	address := serve(t, s.Peers())
	good := s.Peers()
	good.ServerName = "127.0.0.1"
	_, err := dial(t, address, good)
	must(t, err)
	stranger, _ := create(t)
	for name, conf := range map[string]*tls.Config{"no certificate": trusting(a.Roots()), "self-signed": trusting(a.Roots()), "another cloud's": server(t, stranger, nil).Peers()} {
		conf.ServerName, conf.RootCAs = "127.0.0.1", trusting(a.Roots()).RootCAs
		if name == "self-signed" {
			conf.Certificates = []tls.Certificate{selfSigned(t)}
		}
		if _, err := dial(t, address, conf); err == nil {
			t.Errorf("%s is taken for a server", name)
		}
	}
	wrong := good.Clone()
	wrong.RootCAs = trusting(stranger.Roots()).RootCAs
	if _, err := dial(t, address, wrong); err == nil {
		t.Error("a server of another cloud is called")
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// TestHelloEndsBeforeWork refuses a client before a signature was made for it.
func TestHelloEndsBeforeWork(t *testing.T) {
	a, _ := create(t)
	conf := server(t, a, nil).Clients(func(*tls.ClientHelloInfo) error { return errors.New("too many") })
	conf.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		t.Error("work was done")
		return nil, errors.New("no")
	}
	if _, err := dial(t, serve(t, conf), trusting(a.Roots())); err == nil {
		t.Fatal("let in")
	}
}
