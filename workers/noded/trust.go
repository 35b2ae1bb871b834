package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"cloudengine/workers/boot"
)

// trustIn makes connections believe the buses that boot.json says and no others. The machine's clock may stand before the time at which
// boot.json was served, even long before: then that time counts.
func trustIn(c boot.Config) (nats.Option, error) {
	if c.CA == "" {
		return func(*nats.Options) error { return nil }, nil // it was told so: the bus is not encrypted
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.CA)) {
		return nil, errors.New("read boot configuration: \"ca\" holds no certificate")
	}
	return nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Time: func() time.Time {
		if now := time.Now(); now.After(c.Time) {
			return now
		}
		return c.Time
	}}), nil
}
