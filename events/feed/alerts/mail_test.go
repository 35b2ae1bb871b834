package alerts

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudengine/events"
)

// relay is a small real SMTP server.
type relay struct {
	t      *testing.T
	tls    *tls.Config // nil: no STARTTLS
	l      net.Listener
	mu     sync.Mutex
	fail   int
	mails  []string
	secure int
	users  []string
}

func newRelay(t *testing.T, config *tls.Config) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, tls: config, l: l}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return r
}

func (r *relay) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	say := func(s string) { _, _ = c.Write([]byte(s + "\r\n")) }
	say("220 relay ESMTP")
	secured := false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch word := strings.ToUpper(strings.Fields(line + " x")[0]); word {
		case "EHLO":
			say("250-relay")
			if r.tls != nil && !secured {
				say("250-STARTTLS")
			}
			say("250 AUTH PLAIN")
		case "STARTTLS":
			say("220 go on")
			s := tls.Server(c, r.tls)
			if s.Handshake() != nil {
				return
			}
			c, in, secured = s, bufio.NewReader(s), true
		case "AUTH":
			raw, _ := base64.StdEncoding.DecodeString(strings.Fields(line)[2])
			r.note(func() { r.users = append(r.users, strings.ReplaceAll(string(raw), "\x00", " ")) })
			say("235 ok")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				text.WriteString(l)
			}
			failed := false
			r.note(func() {
				if failed = r.fail > 0; failed {
					r.fail--
					return
				}
				r.mails = append(r.mails, text.String())
				if secured {
					r.secure++
				}
			})
			if failed {
				say("451 try later")
			} else {
				say("250 taken")
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (r *relay) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *relay) count() (n int) {
	r.note(func() { n = len(r.mails) })
	return n
}

// certificate makes one for 127.0.0.1, and what trusts it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}, pool
}

func TestMailOverTLS(t *testing.T) {
	config, pool := certificate(t)
	r := newRelay(t, config)
	r.fail = 2
	m, err := NewMail(MailConfig{Relay: r.l.Addr().String(), From: "Cloud <cloud@example.org>", To: []string{"ann@example.org", "bob@example.org"},
		User: "cloud", Password: "secret", Roots: pool, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	js := startStream(t)
	b := open(t, js, m)
	evil := message(30, events.KindMachine, events.MachineContradicted{Code: "contradicts", Message: "ümlaut\r\nBcc: evil@example.org\r\n\r\nbody"})
	b.tell(t, evil, unknown, known)
	await(t, "three mails", func() bool { return r.count() == 3 })
	b.stop()
	if r.secure != 3 || len(r.users) < 3 || r.users[0] != " cloud secret" {
		t.Errorf("%d of 3 mails came over TLS; users %q", r.secure, r.users)
	}
	ids := map[string]bool{}
	for _, text := range r.mails {
		parsed, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if parsed.Header.Get("Bcc") != "" || parsed.Header.Get("Subject") == "" || !strings.Contains(parsed.Header.Get("To"), "bob@example.org") {
			t.Errorf("headers: %v", parsed.Header)
		}
		ids[parsed.Header.Get("Message-Id")] = true
	}
	if len(ids) != 3 || !ids["<"+idOf(Of(unknown)[0])+".cleared@cloudengine>"] {
		t.Errorf("ids: %v", ids)
	}
}

func TestMailRefuses(t *testing.T) {
	config, _ := certificate(t)
	strict, plain := newRelay(t, config), newRelay(t, nil)
	send := func(c MailConfig) error {
		c.From, c.To, c.Now = "a@example.org", []string{"b@example.org"}, time.Now
		m, err := NewMail(c)
		if err != nil {
			t.Fatal(err)
		}
		m.cfg.Plain = c.Plain // as if the relay were elsewhere
		return m.Send(t.Context(), Message{ID: "x", Edge: Raised})
	}
	if err := send(MailConfig{Relay: strict.l.Addr().String()}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody trusts: %v", err)
	}
	if err := send(MailConfig{Relay: plain.l.Addr().String()}); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("no TLS: %v", err)
	}
	if err := send(MailConfig{Relay: plain.l.Addr().String(), Plain: true}); err != nil {
		t.Errorf("no TLS, as wished: %v", err)
	}
	for _, c := range []MailConfig{{Relay: "here", From: "a@b", To: []string{"c@d"}}, {Relay: "h:25", From: "nobody", To: []string{"c@d"}}, {Relay: "h:25", From: "a@b"}} {
		if _, err := NewMail(c); err == nil {
			t.Errorf("taken: %+v", c)
		}
	}
}

func TestWebhookAddress(t *testing.T) {
	for _, bad := range []string{"", "ftp://x", "http://", "example.org/hook"} {
		if _, err := NewWebhook(bad, nil, time.Now); err == nil {
			t.Errorf("taken: %q", bad)
		}
	}
}
