package diskimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"cloudengine/events"
)

// window is what has to be remembered to unpack. Proxies unpack with little memory.
const window = 4 << 20

// Pack writes an image in the form that templates keep, and says what that is, how many bytes the disk has, and the digest of those. The form follows from the image
// alone. said, if not nil, is called now and then.
func Pack(ctx context.Context, i *Image, to io.Writer, said func()) (blob events.Blob, size int64, content string, err error) {
	fail := func(err error) (events.Blob, int64, string, error) {
		return events.Blob{}, 0, "", fmt.Errorf("pack image: %w", err)
	}
	sum, plain := sha256.New(), sha256.New()
	out := &bounded{to: io.MultiWriter(to, sum)}
	zip, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fail(err)
	}
	defer zip.Close()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		n, err := readAll(i, buf)
		if err != nil && err != io.EOF { //nolint:errorlint // a wrapped one is not the end
			if i.Packed != "" && !errors.Is(err, ErrCut) {
				err = broken(err)
			}
			return fail(err)
		}
		if size += int64(n); size > MaxBytes {
			return fail(fmt.Errorf("more than %d bytes: %w", int64(MaxBytes), ErrSize))
		}
		plain.Write(buf[:n])
		if _, err := zip.Write(buf[:n]); err != nil {
			return fail(err)
		}
		if said != nil {
			said()
		}
		if err != nil {
			break
		}
	}
	if size == 0 || size%events.SectorSize != 0 {
		return fail(fmt.Errorf("%d bytes: %w, or is cut off: want a multiple of %d", size, ErrSize, events.SectorSize))
	}
	if err := zip.Close(); err != nil {
		return fail(err)
	}
	return events.Blob{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: out.n}, size, hex.EncodeToString(plain.Sum(nil)), nil
}

// readAll fills p, so that what is packed does not depend on how it comes. Unlike io.ReadFull it tells an end from a packed file that is cut off.
func readAll(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = r.Read(p[n:])
		n += more
	}
	return n, err
}

// bounded writes no more than a template may have.
type bounded struct {
	to io.Writer
	n  int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.n += int64(len(p)); b.n > events.MaxBlob {
		return 0, fmt.Errorf("more than %d bytes when it is packed: %w", int64(events.MaxBlob), ErrSize)
	}
	return b.to.Write(p)
}
