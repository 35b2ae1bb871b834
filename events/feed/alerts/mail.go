package alerts

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"strings"
	"time"
)

// MailConfig says how mail is sent. Relay, From and To are needed.
type MailConfig struct {
	Relay          string // host:port
	From           string
	To             []string
	User, Password string         // empty: no authentication
	Roots          *x509.CertPool // of the relay's certificate; nil: those of the system
	Plain          bool           // send without TLS if the relay offers none; a relay on loopback may always
	Now            func() time.Time
}

// Mail sends alerts through a relay, with STARTTLS.
type Mail struct {
	cfg  MailConfig
	host string
	from string // bare address
	to   []string
}

// NewMail makes a sender.
func NewMail(c MailConfig) (*Mail, error) {
	host, _, err := net.SplitHostPort(c.Relay)
	if err != nil {
		return nil, fmt.Errorf("read address of the mail relay: %w", err)
	}
	m := &Mail{cfg: c, host: host}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		m.cfg.Plain = true
	}
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("read sender of alerts %q: %w", c.From, err)
	}
	m.from = from.Address
	for _, t := range c.To {
		a, err := mail.ParseAddress(t)
		if err != nil {
			return nil, fmt.Errorf("read receiver of alerts %q: %w", t, err)
		}
		m.to = append(m.to, a.Address)
	}
	if len(m.to) == 0 {
		return nil, errors.New("make mail of alerts: nobody is named who gets it")
	}
	return m, nil
}

// Name names the sender.
func (m *Mail) Name() string { return "mail" }

// Send hands one message to the relay. nil: the relay has it.
func (m *Mail) Send(ctx context.Context, msg Message) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.cfg.Relay)
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return fmt.Errorf("send mail: %w", err)
		}
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	c, err := smtp.NewClient(conn, m.host)
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	if err := m.talk(c, msg); err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	_ = c.Quit() // the relay has it
	return nil
}

func (m *Mail) talk(c *smtp.Client, msg Message) error {
	secure, _ := c.Extension("STARTTLS")
	switch {
	case secure:
		if err := c.StartTLS(&tls.Config{ServerName: m.host, RootCAs: m.cfg.Roots, MinVersion: tls.VersionTLS12}); err != nil {
			return err
		}
	case !m.cfg.Plain:
		return errors.New("the relay offers no STARTTLS (--alert-mail-plain sends in the clear)")
	}
	if m.cfg.User != "" {
		if err := c.Auth(smtp.PlainAuth("", m.cfg.User, m.cfg.Password, m.host)); err != nil {
			return err
		}
	}
	if err := c.Mail(m.from); err != nil {
		return err
	}
	for _, to := range m.to {
		if err := c.Rcpt(to); err != nil {
			return fmt.Errorf("receiver %s: %w", to, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.text(msg)); err != nil {
		return err
	}
	return w.Close()
}

// text makes the mail. Its Message-ID is the alert's and the edge's, so that a mail program shows it once.
func (m *Mail) text(msg Message) []byte {
	a := msg.Alert
	word := strings.ToUpper(string(a.Severity))
	if msg.Edge == Cleared {
		word = "OVER"
	}
	var out bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&out, "%s: %s\r\n", name, value) }
	header("From", m.cfg.From)
	header("To", strings.Join(m.cfg.To, ", "))
	header("Date", m.cfg.Now().Format(time.RFC1123Z))
	header("Message-ID", fmt.Sprintf("<%s.%s@cloudengine>", msg.ID, msg.Edge))
	if msg.Edge == Cleared {
		header("In-Reply-To", fmt.Sprintf("<%s.%s@cloudengine>", msg.ID, Raised))
	}
	header("Subject", mime.QEncoding.Encode("utf-8", short(fmt.Sprintf("[cloudengine] %s: %s: %s", word, a.Object, a.Message))))
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	out.WriteString("\r\n")
	q := quotedprintable.NewWriter(&out)
	_, _ = q.Write([]byte(body(msg))) // into memory
	_ = q.Close()
	return out.Bytes()
}

func body(msg Message) string {
	a := msg.Alert
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-10s %s\r\n", name+":", value)
		}
	}
	fmt.Fprintf(&b, "%s\r\n\r\n", a.Message)
	line("object", a.Object.String())
	line("rule", a.Rule)
	line("severity", string(a.Severity))
	line("raised", a.Raised.UTC().Format(time.RFC3339))
	if msg.Edge == Cleared && a.Cleared != nil {
		line("over", a.Cleared.UTC().Format(time.RFC3339)+", "+a.ClearedWhy)
	}
	line("by", a.Actor)
	line("reason", a.Reason)
	if a.Number > 0 {
		line("see", fmt.Sprintf("cloudengine why %d", a.Number))
	}
	if a.Stays && msg.Edge == Raised {
		line("then", "cloudengine alert ack "+a.ID)
	}
	return b.String()
}

// short keeps a subject to one line of reasonable length.
func short(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
	if r := []rune(s); len(r) > 150 {
		return string(r[:149]) + "…"
	}
	return s
}
