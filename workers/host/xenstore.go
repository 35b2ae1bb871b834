package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"sync"
	"time"
)

// XenstoreSocket is where xenstored listens.
const XenstoreSocket = "/run/xenstored/socket"

// Message types of xen/include/public/io/xs_wire.h.
const (
	xsDirectory     = 1
	xsRead          = 2
	xsWatch         = 4
	xsWrite         = 11
	xsRemove        = 13
	xsWatchEvent    = 15
	xsError         = 16
	xsDirectoryPart = 20

	xsPayloadMax = 4096
)

// Xenstore is a client of xenstored. It is safe for concurrent use, keeps one connection, and makes a new one after an error.
type Xenstore struct {
	Socket string

	mu   sync.Mutex
	conn net.Conn
}

var _ Store = (*Xenstore)(nil)

// xsTimeout bounds one request when the context has no earlier deadline.
const xsTimeout = 10 * time.Second

var errWire = errors.New("answer has not the expected shape")

func (x *Xenstore) ask(ctx context.Context, kind uint32, body string) (string, error) {
	if len(body) > xsPayloadMax {
		return "", fmt.Errorf("ask xenstore: %d bytes are too many", len(body))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn == nil {
		d := net.Dialer{Timeout: xsTimeout}
		c, err := d.DialContext(ctx, "unix", x.Socket)
		if err != nil {
			return "", fmt.Errorf("connect to xenstore: %w", err)
		}
		x.conn = c
	}
	deadline := time.Now().Add(xsTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	answer, err := xsExchange(x.conn, deadline, kind, body)
	var refusal xsRefusal
	if err != nil && !errors.As(err, &refusal) {
		x.conn.Close()
		x.conn = nil
	}
	return answer, err
}

// xsRefusal is an error that xenstored answered with, by the name of its errno.
type xsRefusal string

func (r xsRefusal) Error() string { return "xenstore says " + string(r) }

func xsExchange(c net.Conn, deadline time.Time, kind uint32, body string) (string, error) {
	if err := c.SetDeadline(deadline); err != nil {
		return "", fmt.Errorf("ask xenstore: %w", err)
	}
	if err := xsSend(c, kind, body); err != nil {
		return "", err
	}
	got, answer, err := xsReceive(c)
	if err != nil {
		return "", err
	}
	switch got {
	case kind:
		return answer, nil
	case xsError:
		return "", xsRefusal(strings.TrimRight(answer, "\x00"))
	}
	return "", fmt.Errorf("ask xenstore: answer of type %d to %d: %w", got, kind, errWire)
}

// xsSend writes one message: type, request id, transaction, length; little-endian, then the body.
func xsSend(w io.Writer, kind uint32, body string) error {
	b := make([]byte, 16, 16+len(body))
	binary.LittleEndian.PutUint32(b, kind)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(body)))
	if _, err := w.Write(append(b, body...)); err != nil {
		return fmt.Errorf("write to xenstore: %w", err)
	}
	return nil
}

func xsReceive(r io.Reader) (kind uint32, body string, err error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, "", fmt.Errorf("read from xenstore: %w", err)
	}
	n := binary.LittleEndian.Uint32(head[12:])
	if n > xsPayloadMax {
		return 0, "", fmt.Errorf("read from xenstore: %d bytes: %w", n, errWire)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, "", fmt.Errorf("read from xenstore: %w", err)
	}
	return binary.LittleEndian.Uint32(head[:]), string(b), nil
}

// Read gives a node's value.
func (x *Xenstore) Read(ctx context.Context, path string) (string, error) {
	v, err := x.ask(ctx, xsRead, path+"\x00")
	return v, noNode(path, err)
}

func noNode(path string, err error) error {
	if errors.Is(err, xsRefusal("ENOENT")) {
		return fmt.Errorf("%s: %w", path, ErrNoNode)
	}
	return err
}

// Write sets a node's value and makes what is missing above it, with the rights of the nearest node that is there.
func (x *Xenstore) Write(ctx context.Context, path, value string) error {
	_, err := x.ask(ctx, xsWrite, path+"\x00"+value)
	return err
}

// Remove takes a node and all below it away.
func (x *Xenstore) Remove(ctx context.Context, path string) error {
	_, err := x.ask(ctx, xsRemove, path+"\x00")
	if errors.Is(err, xsRefusal("ENOENT")) {
		return nil
	}
	return err
}

// Children lists the names below a node, in parts if they are more than one message holds.
func (x *Xenstore) Children(ctx context.Context, path string) ([]string, error) {
	body, err := x.ask(ctx, xsDirectory, path+"\x00")
	switch {
	case errors.Is(err, xsRefusal("ENOENT")):
		return nil, nil
	case errors.Is(err, xsRefusal("E2BIG")):
		body, err = x.childrenInParts(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	names := strings.FieldsFunc(body, func(r rune) bool { return r == 0 })
	sort.Strings(names)
	return names, nil
}

// childrenInParts asks again and again from an offset. Each answer begins with a count that changes when the list does.
func (x *Xenstore) childrenInParts(ctx context.Context, path string) (string, error) {
	var all bytes.Buffer
	generation := ""
	for range 1 << 12 {
		part, err := x.ask(ctx, xsDirectoryPart, fmt.Sprintf("%s\x00%d\x00", path, all.Len()))
		if err != nil {
			return "", err
		}
		now, names, ok := strings.Cut(part, "\x00")
		if !ok {
			return "", fmt.Errorf("list %s in xenstore: %w", path, errWire)
		}
		if now != generation {
			if generation = now; all.Len() > 0 {
				all.Reset()
				continue
			}
		}
		if names == "\x00" || names == "" || strings.HasSuffix(names, "\x00\x00") {
			all.WriteString(names)
			return all.String(), nil
		}
		all.WriteString(names)
	}
	return "", fmt.Errorf("list %s in xenstore: it does not end: %w", path, errWire)
}

// Watch calls changed whenever a domain appears, shuts down or goes away, until ctx ends or the connection breaks.
func (x *Xenstore) Watch(ctx context.Context, changed func()) error {
	d := net.Dialer{Timeout: xsTimeout}
	c, err := d.DialContext(ctx, "unix", x.Socket)
	if err != nil {
		return fmt.Errorf("connect to xenstore: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for _, what := range []string{"@introduceDomain", "@releaseDomain"} {
		if err := xsSend(c, xsWatch, what+"\x00ce\x00"); err != nil {
			return err
		}
	}
	for {
		kind, body, err := xsReceive(c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		switch kind {
		case xsWatchEvent:
			changed()
		case xsError:
			return fmt.Errorf("watch domains: %w", xsRefusal(strings.TrimRight(body, "\x00")))
		}
	}
}
