package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
)

// TrustFile is the name of the file beside a key file that says which servers to believe: certificates of the cloud's authority, as PEM.
const TrustFile = "ca.pem"

// Trust makes a connection that believes servers with a certificate of one of these authorities (PEM) and no others. Empty: those that
// the machine believes anyway. Without TLS it does not connect.
func Trust(roots []byte) (nats.Option, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if len(roots) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(roots) {
			return nil, errors.New("read certificates of the authority: there is none among them (want PEM, \"-----BEGIN CERTIFICATE-----\")")
		}
	}
	return nats.Secure(conf), nil
}

// Plaintext makes a connection without TLS. Who is on the way reads all that is said, and can answer in the server's place.
func Plaintext(o *nats.Options) error {
	o.Secure, o.TLSConfig = false, nil
	return nil
}

// ReadTrust gives the authorities, as PEM, that come with a key: those in the key file itself and those in TrustFile beside it. Nil: none.
func ReadTrust(keyFile string) ([]byte, error) {
	var out []byte
	for _, path := range []string{keyFile, filepath.Join(filepath.Dir(keyFile), TrustFile)} {
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read certificates of the authority: %w", err)
		}
		out = append(out, certificatesIn(raw)...)
	}
	return out, nil
}

func certificatesIn(raw []byte) []byte {
	var out []byte
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			return out
		}
		if block.Type == "CERTIFICATE" {
			out = append(out, pem.EncodeToMemory(block)...)
		}
	}
}

// AddTrust appends authorities (PEM) to a key file, so that the file is all that its user needs.
func AddTrust(keyFile string, roots []byte) error {
	f, err := os.OpenFile(keyFile, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("add the authority to key file: %w", err)
	}
	_, err = f.Write(certificatesIn(bytes.TrimSpace(roots)))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("add the authority to key file: %w", err)
	}
	return nil
}
