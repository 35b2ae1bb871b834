package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"cloudengine/events"
)

// Check reads a whole file and says why it is not the one of that digest and size; nil: it is.
func (b *Blobs) Check(ctx context.Context, blob events.Blob) error {
	f, err := os.Open(b.Path(blob.SHA256))
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the file is not there")
	}
	if err != nil {
		return fmt.Errorf("open the file: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, readerUntil{ctx, f})
	switch {
	case err != nil:
		return fmt.Errorf("read the file: %w", err)
	case n != blob.Size:
		return fmt.Errorf("the file has %d bytes, not %d", n, blob.Size)
	case hex.EncodeToString(hash.Sum(nil)) != blob.SHA256:
		return errors.New("the file's bytes have another digest")
	}
	return nil
}

// readerUntil reads until its context ends. It lives within one call.
type readerUntil struct {
	ctx context.Context
	r   io.Reader
}

func (r readerUntil) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Check says why a secret's value is not the one with that fingerprint; nil: it is. The value is in no error.
func (s *Secrets) Check(name, fingerprint string) error {
	value, err := s.Value(name)
	if err != nil {
		return err
	}
	if s.fingerprint(name, value) != fingerprint {
		return errors.New("the value that is stored is not the one that the log recorded")
	}
	return nil
}
