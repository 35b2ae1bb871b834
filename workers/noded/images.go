package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"cloudengine/events"
)

// images fetches the images of templates from where the machine has booted from, as host.BlobCache fetches kernels. An image may be larger
// than a machine's memory, so it is kept nowhere: it is read while it is unpacked.
type images struct {
	base  string        // URL; a blob is at <base>/blob/<sha256>
	pause time.Duration // before a broken download goes on; doubles with each time that nothing comes
}

// downloadTries is how often in a row a download may give nothing.
const downloadTries = 5

// Fetch opens a blob. A download that breaks goes on where it ended. Nothing is verified here.
func (i images) Fetch(ctx context.Context, b events.Blob) (io.ReadCloser, error) {
	d := &download{ctx: ctx, url: strings.TrimRight(i.base, "/") + "/blob/" + b.SHA256, size: b.Size, pause: i.pause}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// download reads one file by HTTP. Its context is that of the reader, who reads it in many calls.
type download struct {
	ctx   context.Context
	url   string
	size  int64
	pause time.Duration

	at    int64 // bytes that were read
	body  io.ReadCloser
	tries int // since the last byte came
}

var errNotFrom = errors.New("the server does not go on where the download broke off")

// open asks for what is still to come.
func (d *download) open() error {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", d.url, err)
	}
	want := http.StatusOK
	if d.at > 0 {
		want = http.StatusPartialContent
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", d.url, err)
	}
	if from := fmt.Sprintf("bytes %d-", d.at); resp.StatusCode != want || d.at > 0 && !strings.HasPrefix(resp.Header.Get("Content-Range"), from) {
		resp.Body.Close()
		if d.at > 0 && resp.StatusCode < http.StatusMultipleChoices {
			return fmt.Errorf("fetch %s: %w", d.url, errNotFrom)
		}
		return fmt.Errorf("fetch %s: %s", d.url, resp.Status)
	}
	d.body = resp.Body
	return nil
}

// Read gives the next bytes. It ends with io.EOF only after the whole size.
func (d *download) Read(p []byte) (int, error) {
	for {
		if d.at >= d.size {
			return 0, io.EOF
		}
		n, err := d.body.Read(p)
		if n > 0 {
			d.at, d.tries = d.at+int64(n), 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if err := d.again(err); err != nil {
			return 0, err
		}
	}
}

// again goes on after a break.
func (d *download) again(broke error) error {
	d.body.Close()
	for {
		if d.tries++; d.tries > downloadTries {
			return fmt.Errorf("fetch %s: it breaks off after %d of %d bytes: %w", d.url, d.at, d.size, broke)
		}
		select {
		case <-d.ctx.Done():
			return fmt.Errorf("fetch %s: %w", d.url, d.ctx.Err())
		case <-time.After(d.pause << (d.tries - 1)):
		}
		err := d.open()
		if err == nil || errors.Is(err, errNotFrom) {
			return err
		}
		broke = err
	}
}

// Close ends the download.
func (d *download) Close() error { return d.body.Close() }
