package build

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// errNotBzImage is returned for a file without the x86 boot protocol's header.
var errNotBzImage = errors.New("no bzImage header")

// Vmlinux writes the kernel inside a bzImage to w: an ELF file that Xen starts without unpacking it first. It reads
// the payload's place from the header (Linux Documentation/arch/x86/boot.rst, protocol 2.08 and later) and
// takes xz and zstd.
func Vmlinux(w io.Writer, bzImage []byte) error {
	const headerEnd = 0x250
	if len(bzImage) < headerEnd || string(bzImage[0x202:0x206]) != "HdrS" {
		return fmt.Errorf("unpack kernel: %w", errNotBzImage)
	}
	if v := binary.LittleEndian.Uint16(bzImage[0x206:]); v < 0x208 {
		return fmt.Errorf("unpack kernel: boot protocol %#x names no payload: %w", v, errNotBzImage)
	}
	setup := int64(bzImage[0x1f1])
	if setup == 0 {
		setup = 4
	}
	start := (setup+1)*512 + int64(binary.LittleEndian.Uint32(bzImage[0x248:]))
	end := start + int64(binary.LittleEndian.Uint32(bzImage[0x24c:]))
	if end > int64(len(bzImage)) || end-start < 6 {
		return fmt.Errorf("unpack kernel: payload %d to %d of %d bytes: %w", start, end, len(bzImage), errNotBzImage)
	}
	r, err := payloadReader(bzImage[start:end])
	if err != nil {
		return err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return fmt.Errorf("unpack kernel: %w", err)
	}
	if string(head) != "\x7fELF" {
		return fmt.Errorf("unpack kernel: payload is no ELF file: %w", errNotBzImage)
	}
	if _, err := io.Copy(w, io.MultiReader(bytes.NewReader(head), r)); err != nil {
		return fmt.Errorf("unpack kernel: %w", err)
	}
	return nil
}

// payloadReader opens the compressed kernel. The build appends its unpacked size, 4 bytes, which is not part of it.
func payloadReader(payload []byte) (io.Reader, error) {
	body := bytes.NewReader(payload[:len(payload)-4])
	switch {
	case bytes.HasPrefix(payload, []byte("\xfd7zXZ\x00")):
		r, err := xz.NewReader(body, 0)
		if err != nil {
			return nil, fmt.Errorf("unpack kernel: %w", err)
		}
		r.Multistream(false)
		return r, nil
	case bytes.HasPrefix(payload, []byte("\x28\xb5\x2f\xfd")):
		r, err := zstd.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("unpack kernel: %w", err)
		}
		return r.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("unpack kernel: compression %x is neither xz nor zstd", payload[:4])
}
