package alerts

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Headers of a webhook's request. The signature is "v1=" and the HMAC-SHA-256 (hex) over the timestamp, a dot and the body.
const (
	HeaderAlert     = "Ce-Alert"     // <id>.<edge>
	HeaderTimestamp = "Ce-Timestamp" // seconds since 1970, of this attempt
	HeaderSignature = "Ce-Signature"
)

// Webhook posts alerts as JSON.
type Webhook struct {
	url    string
	secret []byte
	client *http.Client
	now    func() time.Time
}

// NewWebhook makes a sender. Without a secret nothing is signed. Redirects are not followed: they would take the alert elsewhere.
func NewWebhook(address string, secret []byte, now func() time.Time) (*Webhook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("read address of the webhook: %q: want http://… or https://…", address)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Webhook{address, secret, client, now}, nil
}

// Name names the sender.
func (w *Webhook) Name() string { return "webhook" }

// Sign gives the signature of a body.
func Sign(secret []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Send posts one message. Any answer but 2xx is an error.
func (w *Webhook) Send(ctx context.Context, m Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode alert: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post alert: %w", err)
	}
	stamp := strconv.FormatInt(w.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "cloudengine")
	req.Header.Set(HeaderAlert, m.ID+"."+m.Edge)
	req.Header.Set(HeaderTimestamp, stamp)
	if len(w.secret) > 0 {
		req.Header.Set(HeaderSignature, Sign(w.secret, stamp, body))
	}
	answer, err := w.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address may hold a password
		}
		return fmt.Errorf("post alert: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 200)) // for people
		return fmt.Errorf("post alert: the receiver answered %s: %q", answer.Status, text)
	}
	return nil
}
