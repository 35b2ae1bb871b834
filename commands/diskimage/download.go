package diskimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"cloudengine/events"
)

// ErrDigest says that a file is not the one of its digest.
var ErrDigest = errors.New("its digest is not the one that was given")

// Download fetches the file of a digest (SHA-256, hex) and gives its path in dir. It goes on where an earlier download of that file ended, and
// fetches nothing if the file is there. said, if not nil, is told of the progress; total is 0 if the server does not say it.
func Download(ctx context.Context, url, digest, dir string, said func(done, total int64)) (string, error) {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size || strings.ToLower(digest) != digest {
		return "", fmt.Errorf("download %s: want its SHA-256 as 64 lower-case hex digits", url)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("download %s: %w", url, err)
	}
	whole := filepath.Join(dir, digest)
	if f, err := os.Open(whole); err == nil {
		defer f.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err == nil && hexOf(sum) == digest {
			return whole, nil
		}
	}
	part := whole + ".part"
	if err := download(ctx, url, digest, part, said); err != nil {
		return "", fmt.Errorf("download %s: %w", url, err)
	}
	if err := os.Rename(part, whole); err != nil {
		return "", fmt.Errorf("download %s: %w", url, err)
	}
	return whole, nil
}

func hexOf(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)) }

// download completes the file part, and removes it if it is not what it should be.
func download(ctx context.Context, url, digest, part string, said func(done, total int64)) error {
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	at, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	body, total, from, err := get(ctx, url, at)
	if err != nil {
		return err
	}
	defer body.Close()
	if from != at { // the server sends all of it again
		if err := errors.Join(f.Truncate(0), seekStart(f)); err != nil {
			return err
		}
		sum.Reset()
		at = 0
	}
	to := io.MultiWriter(f, sum)
	for buf := make([]byte, 256<<10); ; {
		n, err := body.Read(buf)
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
		if at += int64(n); at > events.MaxBlob {
			return fmt.Errorf("more than %d bytes: %w", int64(events.MaxBlob), ErrSize)
		}
		if said != nil {
			said(at, total)
		}
		if err == io.EOF { //nolint:errorlint // a wrapped one is not the end
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w; it goes on there when you repeat the command", at, err)
		}
	}
	if got := hexOf(sum); got != digest {
		return errors.Join(fmt.Errorf("%w: it is %s; nothing of it was kept", ErrDigest, got), os.Remove(part))
	}
	return nil
}

func seekStart(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// get asks for a file from a byte on. It gives what comes, the size of the whole file, and the byte from which on it comes: at, or the first.
func get(ctx context.Context, url string, at int64) (body io.ReadCloser, total, from int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, 0, err
	}
	if at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", at))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, 0, err
	}
	switch {
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at)):
		return resp.Body, at + max(resp.ContentLength, 0), at, nil
	case resp.StatusCode == http.StatusOK:
		return resp.Body, max(resp.ContentLength, 0), 0, nil
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && at > 0: // what is there may be all of it: its digest says so
		resp.Body.Close()
		return http.NoBody, at, at, nil
	}
	resp.Body.Close()
	return nil, 0, 0, errors.New(resp.Status)
}
