// Package client speaks the bus contract of CloudEngine (commands/api/DESIGN.md) from Go: it sends intents and gets their stored
// outcomes, asks the read models, follows FEED, uploads blobs, sets secrets and reads consoles.
//
// It promises that an intent is sent with one id until it is answered, so that it is decided once however often it is repeated,
// and that nothing is told as done that was not answered as stored. It resolves no names, keeps no state but its connection, and
// knows nothing of the rules: what it is refused, it hands on.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloudengine/events"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// ErrNoAnswer says that nobody answered before the context ended. Whether an intent was decided is not known then: ask again
// with the same id, or look its operation up.
var ErrNoAnswer = errors.New("no answer")

// connectTime bounds how long a busy server may take to let a client in.
const connectTime = 10 * time.Second

// attempt bounds how long one try waits for its answer before the same request is sent again.
const attempt = 3 * time.Second

// Client is a connection to the bus as one user. Its methods may be called from several goroutines.
type Client struct {
	nc    *nats.Conn
	actor string
}

// Connect connects to server (one or several nats:// URLs, comma separated) with the seed in keyFile, as the user that the file
// names (see ReadKeyFile), and believes the authorities that come with it (see ReadTrust). It tries once and then reconnects by itself
// until Close.
func Connect(ctx context.Context, server, keyFile string, opts ...nats.Option) (*Client, error) {
	seed, user, err := ReadKeyFile(keyFile)
	if err != nil {
		return nil, err
	}
	roots, err := ReadTrust(keyFile)
	if err != nil {
		return nil, err
	}
	trust, err := Trust(roots)
	if err != nil {
		return nil, err
	}
	return ConnectSeed(ctx, server, seed, user, append([]nats.Option{trust}, opts...)...)
}

// ConnectSeed is Connect with the seed and the user's name at hand. It believes what the machine believes, unless opts have a Trust,
// and connects without TLS only with Plaintext.
func ConnectSeed(ctx context.Context, server string, seed []byte, user string, opts ...nats.Option) (*Client, error) {
	if !events.IsToken(user) {
		return nil, fmt.Errorf("connect: %q is no name of a user (1 to 64 of a–z, 0–9, - and _)", user)
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("read key of %s: %w", user, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read key of %s: %w", user, err)
	}
	all := append([]nats.Option{
		nats.Name("cloudengine/" + user),
		nats.Timeout(connectTime),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13}),
		nats.Nkey(public, pair.Sign),
		nats.CustomInboxPrefix(events.InboxPrefix(user)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), // a server that hangs is left within seconds
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // what matters comes back with the request
	}, opts...)
	if end, ok := ctx.Deadline(); ok {
		all = append(all, nats.Timeout(min(max(time.Until(end), 10*time.Millisecond), connectTime)))
	}
	nc, err := nats.Connect(server, all...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s as %s: %w", server, user, err)
	}
	return &Client{nc: nc, actor: user}, nil
}

// ReadKeyFile reads a file that holds an nkey seed (a line that starts with SU) and, in a line "# user: NAME", whose it is.
// Without that line the file's base name says it: admin.nk is admin's.
func ReadKeyFile(path string) (seed []byte, user string, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("read key: %w", err)
	}
	user = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	for line := range bytes.Lines(raw) {
		text := string(bytes.TrimSpace(line))
		if name, ok := strings.CutPrefix(text, "# user:"); ok {
			user = strings.TrimSpace(name)
		}
		if strings.HasPrefix(text, "SU") && seed == nil { // what follows may be certificates
			seed = []byte(text)
		}
	}
	if seed == nil {
		return nil, "", fmt.Errorf("read key %s: no line with a user's seed (SU…)", path)
	}
	return seed, user, nil
}

// WriteKeyFile makes a new key for a user in a new file of mode 0600 and gives its public half. It never replaces a file.
func WriteKeyFile(path, user string) (public string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", fmt.Errorf("make key of %s: %w", user, err)
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return "", fmt.Errorf("make key of %s: %w", user, err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("make key of %s: %w", user, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("make key file: %w", err)
	}
	_, err = fmt.Fprintf(f, "# user: %s\n%s\n", user, seed)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write key file: %w", err)
	}
	return public, nil
}

// Actor is the user's name, as it appears in subjects and decisions.
func (c *Client) Actor() string { return c.actor }

// Conn is the connection beneath. Do not close it.
func (c *Client) Conn() *nats.Conn { return c.nc }

// Close ends the connection.
func (c *Client) Close() { c.nc.Close() }

// NewID makes an intent id: a UUIDv7, so that ids sort by time.
func NewID() events.IntentID { return events.IntentID(uuid.Must(uuid.NewV7()).String()) }

// ask sends body until something answers or ctx ends. again says whether an answer only asks to be asked again.
func (c *Client) ask(ctx context.Context, msg *nats.Msg, again func(*nats.Msg) bool) (*nats.Msg, error) {
	wait := 50 * time.Millisecond
	var last error
	for {
		try, cancel := context.WithTimeout(ctx, attempt)
		answer, err := c.nc.RequestMsgWithContext(try, msg)
		cancel()
		switch {
		case err == nil && !again(answer):
			return answer, nil
		case err == nil:
			last = fmt.Errorf("answered: %s", bytes.TrimSpace(answer.Data))
		case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrBadSubject):
			return nil, fmt.Errorf("send %s: %w", msg.Subject, err)
		default:
			last = err
		}
		if refused := c.refused(msg.Subject); refused != nil {
			return nil, fmt.Errorf("send %s: %w", msg.Subject, refused)
		}
		pause := time.NewTimer(wait + rand.N(wait))
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("send %s: %w (%w; last: %v)", msg.Subject, ErrNoAnswer, ctx.Err(), last)
		case <-pause.C:
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// refused gives the bus's error if it does not let us send on a subject. The bus tells it apart from the request, and only its text
// names the subject.
func (c *Client) refused(subject string) error {
	err := c.nc.LastError()
	if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`) {
		return err
	}
	return nil
}

func encode(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return raw, nil
	}
	buf := &bytes.Buffer{}
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}
