package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server makes the certificates that one server shows. It is safe for concurrent use.
type Server struct {
	authority *Authority
	names     []string
	now       func() time.Time

	mu   sync.Mutex
	cert *tls.Certificate
	ips  map[netip.Addr]bool // addresses of ours by which a client came although no interface had shown them
}

// NewServer prepares the certificates of a server that is reached by these names and addresses; empty ones are left out. Those of the
// machine's interfaces and loopback are added. now may be nil: the clock.
func NewServer(a *Authority, names []string, now func() time.Time) (*Server, error) {
	if now == nil {
		now = time.Now
	}
	s := &Server{authority: a, names: names, now: now, ips: map[netip.Addr]bool{}}
	if _, err := s.certificate(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// Clients is how users and machines are received. They show no certificate. hello, which may be nil, is asked before any work is done
// for a client; its error ends the connection.
func (s *Server) Clients(hello func(*tls.ClientHelloInfo) error) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.certificate}
	if hello != nil {
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { return nil, hello(h) }
	}
	return c
}

// Peers is how servers receive and call each other: both sides must show a certificate of the authority.
func (s *Server) Peers() *tls.Config {
	pool := s.authority.Pool()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, RootCAs: pool, GetCertificate: s.certificate,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.certificate(nil) },
	}
}

// Roots is what clients must trust, as PEM.
func (s *Server) Roots() []byte { return s.authority.Roots() }

// certificate gives the present certificate, or a new one if that ends soon or lacks the address by which the client came.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.cert != nil && s.now().Before(s.cert.Leaf.NotAfter.Add(-renewBefore))
	if ip := arrival(hello); fresh && ip.IsValid() && !slices.ContainsFunc(s.cert.Leaf.IPAddresses, func(x net.IP) bool { return x.Equal(ip.AsSlice()) }) {
		s.ips[ip], fresh = true, false
	}
	if fresh {
		return s.cert, nil
	}
	cert, err := s.issue()
	if err != nil {
		return nil, err
	}
	s.cert = cert
	return cert, nil
}

// arrival is the address of ours that a client has connected to.
func arrival(hello *tls.ClientHelloInfo) netip.Addr {
	if hello == nil || hello.Conn == nil {
		return netip.Addr{}
	}
	a, err := netip.ParseAddrPort(hello.Conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{} // in-process
	}
	return a.Addr().Unmap().WithZone("")
}

func (s *Server) issue() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of the server: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "CloudEngine server"}, NotBefore: longAgo, NotAfter: s.now().Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	t.DNSNames, t.IPAddresses = s.subjects()
	leaf, err := sign(t, s.authority.roots[0], &key.PublicKey, s.authority.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of the server: %w", err)
	}
	out := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, c := range s.authority.cross {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// subjects are all names and addresses of this server: those given, loopback, and those of its interfaces now.
func (s *Server) subjects() (names []string, ips []net.IP) {
	all := append([]string{"localhost", "127.0.0.1", "::1"}, s.names...)
	if list, err := net.InterfaceAddrs(); err == nil { // without them, what was given must do
		for _, a := range list {
			if n, ok := a.(*net.IPNet); ok {
				all = append(all, n.IP.String())
			}
		}
	}
	for ip := range s.ips {
		all = append(all, ip.String())
	}
	slices.Sort(all)
	for _, n := range slices.Compact(all) {
		n = strings.Trim(n, "[]")
		ip := net.ParseIP(n)
		switch {
		case n == "" || ip != nil && ip.IsUnspecified():
		case ip != nil:
			ips = append(ips, ip)
		default:
			names = append(names, n)
		}
	}
	return names, ips
}
