package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"cloudengine/events"
)

// Bounds of unpacking. A proxy has little memory: the window is what zstd remembers of the image, and most of what unpacking takes.
const (
	maxWindow = 8 << 20
	maxImage  = 1 << 40
)

// image unpacks a blob while it is fetched, and hashes the packed bytes.
type image struct {
	body   io.ReadCloser
	packed *io.LimitedReader
	sum    hash.Hash
	size   int64 // bytes that were fetched at most
	zip    *zstd.Decoder
	cancel context.CancelFunc
}

var (
	errSum    = errors.New("it is not what it should be")
	errLonger = errors.New("the image is longer than its template says")
)

// openImage begins to fetch a blob. What it gives outlives ctx, and ends when cancel or close is called.
func openImage(ctx context.Context, fetch Fetch, b events.Blob) (*image, error) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	body, err := fetch(own, b)
	if !stop() && err == nil {
		body.Close()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("fetch blob %s: %w", b.SHA256, err)
	}
	i := &image{body: body, packed: &io.LimitedReader{R: body, N: b.Size + 1}, sum: sha256.New(), size: b.Size + 1, cancel: cancel}
	i.zip, err = zstd.NewReader(io.TeeReader(i.packed, i.sum), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxImage))
	if err != nil {
		i.close()
		return nil, fmt.Errorf("unpack blob %s: %w", b.SHA256, err)
	}
	return i, nil
}

// Read gives bytes of the unpacked image. They are not verified before end.
func (i *image) Read(p []byte) (int, error) {
	n, err := i.zip.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("unpack: %w", err)
	}
	return n, err
}

// end says whether all was read, and was what it should be.
func (i *image) end(b events.Blob) error {
	rest, err := io.CopyN(io.Discard, i.zip, 1)
	if rest == 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("unpack blob %s: %w", b.SHA256, err)
	}
	if rest > 0 {
		return fmt.Errorf("unpack blob %s: %w", b.SHA256, errLonger)
	}
	if _, err := io.Copy(i.sum, i.packed); err != nil {
		return fmt.Errorf("fetch blob %s: %w", b.SHA256, err)
	}
	got, n := hex.EncodeToString(i.sum.Sum(nil)), i.size-i.packed.N
	if n != b.Size || got != b.SHA256 {
		return fmt.Errorf("fetch blob %s: %w: at least %d bytes of %d came, with digest %s", b.SHA256, errSum, n, b.Size, got)
	}
	return nil
}

// close ends the fetch. Nobody may be reading.
func (i *image) close() {
	i.cancel()
	if i.zip != nil {
		i.zip.Close()
	}
	i.body.Close()
}
