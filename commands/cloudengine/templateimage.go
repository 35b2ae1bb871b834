package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/commands/diskimage"
	"cloudengine/events"
)

// diskSource is where the image of a template of type disk comes from.
type diskSource struct {
	file   string // a path, or an http(s) URL
	format string
	sha256 string // of the file as it comes; needed for a URL
}

func (d diskSource) isURL() bool {
	return strings.HasPrefix(d.file, "https://") || strings.HasPrefix(d.file, "http://")
}

// check finds what is wrong with flags before anything is done.
func (d diskSource) check() error {
	switch {
	case d.format != diskimage.Auto && d.format != diskimage.Raw && d.format != diskimage.Qcow2:
		return usagef("flag --format: %q is none of auto, raw and qcow2", d.format)
	case d.isURL() && d.sha256 == "":
		return usagef("an image from a URL needs its digest: --sha256, as whoever publishes the image says it")
	case !d.isURL() && d.sha256 != "":
		return usagef("flag --sha256 is for an image from a URL")
	}
	return nil
}

// imageCache is where downloads are kept.
func imageCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a directory for downloads: %w", err)
	}
	dir = filepath.Join(dir, "cloudengine", "images")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory for downloads: %w", err)
	}
	return dir, nil
}

// diskArgs packs and uploads an image and adds it to the arguments of a template.
func (a *app) diskArgs(ctx context.Context, c *client.Client, d diskSource, args map[string]any) error {
	dir, err := imageCache()
	if err != nil {
		return err
	}
	if d.isURL() {
		p := a.transfer("download " + d.file)
		if d.file, err = diskimage.Download(ctx, d.file, d.sha256, dir, p.tell); err != nil {
			return err
		}
	}
	image, err := diskimage.Open(d.file, d.format, dir)
	if err != nil {
		return err
	}
	defer image.Close()
	packed, err := os.CreateTemp(dir, "packed-*")
	if err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	p := a.transfer("pack " + d.file)
	blob, size, content, err := diskimage.Pack(ctx, image, packed, func() { p.tell(image.Progress()) })
	if err != nil {
		return fmt.Errorf("%s: %w", d.file, err)
	}
	a.talk("%s: %s, a disk of %s, packed %s", d.file, strings.TrimSpace(image.Format+" "+image.Packed), mib(size), mib(blob.Size))
	if err := c.PutBlob(ctx, blob, packed, a.transfer("upload").tell); err != nil {
		if ctx.Err() != nil {
			a.talk("the upload goes on where it ended when you repeat the command")
		}
		return fmt.Errorf("upload %s: %w", d.file, err)
	}
	args["type"], args["disk"], args["disk_bytes"], args["disk_content_sha256"] = events.TemplateDisk, blob, size, content
	return nil
}

// progressEvery is how often long work is told of.
const progressEvery = 2 * time.Second

// transfer tells how far long work is, and when it may end.
func (a *app) transfer(what string) *transfer {
	now := time.Now()
	return &transfer{a: a, what: what, told: now, began: now, first: -1}
}

type transfer struct {
	a           *app
	what        string
	told, began time.Time
	first       int64 // done when it began: an upload may go on
}

// tell is called with bytes as often as one likes; total 0 is not known. Work that is over at once is not told of.
func (p *transfer) tell(done, total int64) {
	now := time.Now()
	if p.first < 0 {
		p.first = done
	}
	if now.Sub(p.told) < progressEvery {
		return
	}
	p.told = now
	p.a.talk("%s", progressLine(p.what, done, total, p.first, now.Sub(p.began)))
}

func progressLine(what string, done, total, first int64, took time.Duration) string {
	if total <= 0 {
		return fmt.Sprintf("%s: %s", what, mib(done))
	}
	line := fmt.Sprintf("%s: %s of %s (%d %%)", what, mib(done), mib(total), done*100/total)
	if done > first && done < total {
		left := time.Duration(float64(took) * float64(total-done) / float64(done-first))
		line += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return line
}
