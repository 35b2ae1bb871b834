package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// PutFile uploads a file unless the server has it. said, if not nil, is told of the progress.
func (c *Client) PutFile(ctx context.Context, path string, said func(done, total int64)) (events.Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return events.Blob{}, fmt.Errorf("upload: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return events.Blob{}, fmt.Errorf("read %s: %w", path, err)
	}
	blob := events.Blob{SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size}
	if err := c.PutBlob(ctx, blob, f, said); err != nil {
		return blob, fmt.Errorf("upload %s: %w", path, err)
	}
	return blob, nil
}

// PutBlob uploads what r holds unless the server has it; it goes on where an earlier upload of the same digest ended.
func (c *Client) PutBlob(ctx context.Context, blob events.Blob, r io.ReaderAt, said func(done, total int64)) error {
	at, err := c.putChunk(ctx, blob, 0, nil) // no bytes: only asks how far the server is
	for err == nil && !at.Done {
		if said != nil {
			said(at.Offset, blob.Size)
		}
		chunk := make([]byte, min(wire.Chunk, blob.Size-at.Offset))
		if _, err := r.ReadAt(chunk, at.Offset); err != nil {
			return fmt.Errorf("read at %d: %w", at.Offset, err)
		}
		at, err = c.putChunk(ctx, blob, at.Offset, chunk)
	}
	if err == nil && said != nil {
		said(blob.Size, blob.Size)
	}
	return err
}

func (c *Client) putChunk(ctx context.Context, blob events.Blob, offset int64, chunk []byte) (wire.BlobAnswer, error) {
	msg := nats.NewMsg(wire.BlobSubject(c.actor))
	msg.Header.Set(wire.HeaderSHA256, blob.SHA256)
	msg.Header.Set(wire.HeaderTotal, strconv.FormatInt(blob.Size, 10))
	msg.Header.Set(wire.HeaderOffset, strconv.FormatInt(offset, 10))
	msg.Data = chunk
	var a wire.BlobAnswer
	reply, err := c.ask(ctx, msg, func(m *nats.Msg) bool {
		var a wire.BlobAnswer
		return json.Unmarshal(m.Data, &a) == nil && a.Error != nil && isLater(a.Error.Code)
	})
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer of %s: %w", msg.Subject, err)
	}
	if a.Error != nil {
		return a, &Refusal{Outcome: *a.Error}
	}
	return a, nil
}

// SetSecret gives a secret a new value. The value is sealed by the server and never enters the log; its fingerprint does.
func (c *Client) SetSecret(ctx context.Context, name string, value []byte, opts ...Option) (events.Answer, error) {
	r := events.Request{ID: NewID()}
	for _, o := range opts {
		o(&r)
	}
	body, err := encode(wire.SecretRequest{ID: r.ID, Name: name, Value: value, Reason: r.Reason})
	if err != nil {
		return events.Answer{}, fmt.Errorf("encode secret %s: %w", name, err)
	}
	return c.answer(ctx, &nats.Msg{Subject: wire.SecretSubject(c.actor), Data: body})
}

// Console reads the end of a VM's console.
func (c *Client) Console(ctx context.Context, vm events.VMID, last int) (wire.ConsoleAnswer, error) {
	return c.ConsoleOf(ctx, wire.ConsoleRequest{VM: vm, Bytes: last})
}

// ConsoleOf reads the end of a VM's console, or of its last run's.
func (c *Client) ConsoleOf(ctx context.Context, r wire.ConsoleRequest) (wire.ConsoleAnswer, error) {
	var a wire.ConsoleAnswer
	body, err := encode(r)
	if err != nil {
		return a, fmt.Errorf("encode console request: %w", err)
	}
	msg := &nats.Msg{Subject: wire.ConsoleSubject(c.actor), Data: body}
	reply, err := c.ask(ctx, msg, func(m *nats.Msg) bool {
		var a wire.ConsoleAnswer
		return json.Unmarshal(m.Data, &a) == nil && a.Error != nil && isLater(a.Error.Code)
	})
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(bytes.TrimSpace(reply.Data), &a); err != nil {
		return a, fmt.Errorf("read answer of %s: %w", msg.Subject, err)
	}
	if a.Error != nil {
		return a, &Refusal{Outcome: *a.Error}
	}
	return a, nil
}
