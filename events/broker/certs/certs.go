// Package certs is the private certificate authority of one cloud, and the certificates that its servers show.
//
// It promises that the authority's key is made once and kept in a file that only its owner can read; that a server's certificate lives
// in memory alone, names every address by which the server is reached, and is renewed long before its end without a connection being
// dropped; that only who holds a certificate of the authority can be a server's peer; and that clients which trust the authority from
// before a rotation still know the servers after it. Users and machines have no certificates: they are known by nkeys.
//
// It revokes nothing: a server whose key is in wrong hands is answered by Rotate and Forget.
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Files of an authority, in its directory. To copy an authority is to copy them all.
const (
	KeyFile   = "ca.key"    // private, mode 0600
	RootsFile = "ca.pem"    // public: what clients trust; the present authority first, then those before it
	crossFile = "cross.pem" // public: the present authority, signed by those before it
)

// Lifetimes. Nothing begins to be valid when it is made: a machine without a clock of its own may live in the past for a while.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	serverLife    = 90 * 24 * time.Hour
	renewBefore   = serverLife / 3
)

var longAgo = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// ErrMissing says that a directory holds no authority.
var ErrMissing = errors.New("there is no certificate authority here")

// Authority signs the certificates of servers. It is not changed after it was opened, and safe for concurrent use.
type Authority struct {
	key   *ecdsa.PrivateKey
	roots []*x509.Certificate // the present one first
	cross []*x509.Certificate
}

// Create makes an authority in dir, which is made too. It never replaces one (fs.ErrExist).
func Create(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the certificate authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of the certificate authority: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, RootsFile)); err == nil {
		return nil, fmt.Errorf("make certificate authority: %s: %w", filepath.Join(dir, RootsFile), fs.ErrExist)
	}
	if err := writeKey(filepath.Join(dir, KeyFile), key); err != nil {
		return nil, err
	}
	return Open(dir)
}

// Open reads the authority in dir; ErrMissing if there is none. A crash while it was made left at most its key: the rest is made again.
func Open(dir string) (*Authority, error) {
	key, err := readKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, err
	}
	a := &Authority{key: key}
	if a.roots, err = readCertificates(filepath.Join(dir, RootsFile)); err != nil {
		return nil, err
	}
	if a.cross, err = readCertificates(filepath.Join(dir, crossFile)); err != nil {
		return nil, err
	}
	if len(a.roots) == 0 {
		root, err := selfSigned(key, time.Now())
		if err != nil {
			return nil, err
		}
		a.roots = []*x509.Certificate{root}
		return a, a.write(dir)
	}
	if !key.PublicKey.Equal(a.roots[0].PublicKey) {
		return nil, fmt.Errorf("open certificate authority: %s is not the key of the first certificate in %s: copy both from the same server", KeyFile, filepath.Join(dir, RootsFile))
	}
	return a, nil
}

// Rotate replaces the authority in dir by a new one and keeps trusting the old one. Clients that know only the old one go on: servers
// show the new authority signed by it. Servers take the new one when they are started again.
func Rotate(dir string) (*Authority, error) {
	old, err := Open(dir)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of the certificate authority: %w", err)
	}
	now := time.Now()
	root, err := selfSigned(key, now)
	if err != nil {
		return nil, err
	}
	t := authorityTemplate(key, now)
	t.NotAfter = old.roots[0].NotAfter
	cross, err := sign(t, old.roots[0], &key.PublicKey, old.key)
	if err != nil {
		return nil, fmt.Errorf("sign the new certificate authority with the old one: %w", err)
	}
	a := &Authority{key: key, roots: append([]*x509.Certificate{root}, old.roots...), cross: append([]*x509.Certificate{cross}, old.cross...)}
	next := filepath.Join(dir, KeyFile+".new")
	if err := errors.Join(os.RemoveAll(next), writeKey(next, key)); err != nil {
		return nil, err
	}
	// The certificates first: with the old key beside them Open refuses, and says what to do; the old key is lost only when all is there.
	if err := a.write(dir); err != nil {
		return nil, err
	}
	if err := os.Rename(next, filepath.Join(dir, KeyFile)); err != nil {
		return nil, fmt.Errorf("put the new key of the certificate authority in place: %w", err)
	}
	return a, syncDir(dir)
}

// Forget ends the trust in all authorities before the present one. Clients that know only those are not let in any more: they need the
// present one first. It gives the number of those forgotten.
func Forget(dir string) (int, error) {
	a, err := Open(dir)
	if err != nil {
		return 0, err
	}
	n := len(a.roots) - 1
	a.roots, a.cross = a.roots[:1], nil
	return n, a.write(dir)
}

// Roots is what clients must trust, as PEM: no secret.
func (a *Authority) Roots() []byte { return encode(a.roots) }

// Pool is Roots for crypto/tls.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range a.roots {
		p.AddCert(c)
	}
	return p
}

// Description is one trusted authority, for people.
type Description struct {
	Fingerprint string    // SHA-256 of the certificate, hex
	NotAfter    time.Time // its end
	Signs       bool      // it is the present one
}

// Describe lists the trusted authorities, the present one first.
func (a *Authority) Describe() []Description {
	out := make([]Description, 0, len(a.roots))
	for i, c := range a.roots {
		sum := sha256.Sum256(c.Raw)
		out = append(out, Description{hex.EncodeToString(sum[:]), c.NotAfter, i == 0})
	}
	return out
}

func (a *Authority) write(dir string) error {
	err := writeFile(filepath.Join(dir, RootsFile), encode(a.roots), 0o644)
	if len(a.cross) > 0 {
		return errors.Join(err, writeFile(filepath.Join(dir, crossFile), encode(a.cross), 0o644))
	}
	if rm := os.Remove(filepath.Join(dir, crossFile)); !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}

func authorityTemplate(key *ecdsa.PrivateKey, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "CloudEngine authority " + now.UTC().Format("2006-01-02 15:04:05")},
		NotBefore: longAgo, NotAfter: now.Add(authorityLife), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: keyID(&key.PublicKey),
	}
}

func selfSigned(key *ecdsa.PrivateKey, now time.Time) (*x509.Certificate, error) {
	t := authorityTemplate(key, now)
	c, err := sign(t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of the authority: %w", err)
	}
	return c, nil
}

func sign(t, parent *x509.Certificate, public crypto.PublicKey, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	raw, err := x509.CreateCertificate(rand.Reader, t, parent, public, by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(raw)
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

func keyID(k *ecdsa.PublicKey) []byte {
	raw, err := k.Bytes()
	if err != nil {
		return nil // of another curve than ours: x509 makes an id itself
	}
	sum := sha256.Sum256(raw)
	return sum[:20]
}

func encode(list []*x509.Certificate) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}
