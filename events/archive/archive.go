// Package archive is a file that holds a copy of the log: a header, the payload of each block as it is stored, and a trailer.
//
// It promises that what is read is byte for byte what was added, in order, and that a file that was cut off or changed in its framing
// is told from a whole one. It does not judge the blocks: whether they are a log is for events.Position to say, and whether they are
// the true one for a signed head. It does no I/O but through what it is given.
//
// The form: one line of JSON (Header), then each block as its length in bytes (32 bits, big endian, never 0) and its payload, then a
// length of 0 and one line of JSON (Trailer).
package archive

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"cloudengine/events"
)

// Kind is what the header of every archive says.
const Kind = "cloudengine log"

// Format is the version of the form that this program writes; it reads no other.
const Format = 1

// maxPayload bounds one block in bytes: the bus carries no more in one message.
const maxPayload = 8 << 20

// maxLine bounds header and trailer in bytes.
const maxLine = 4096

// Errors of Read.
var (
	ErrNotArchive = errors.New("this is not a copy of a log")
	ErrVersion    = errors.New("the copy is of a newer form: use a newer program")
	ErrCut        = errors.New("the copy is cut off")
	ErrTrailer    = errors.New("the copy does not end as its last line says")
)

// Header begins an archive.
type Header struct {
	Kind   string    `json:"kind"`
	Format int       `json:"format"`
	Made   time.Time `json:"made"`
}

// Trailer ends an archive.
type Trailer struct {
	Blocks uint64 `json:"blocks"`
	Head   string `json:"head"` // digest of the last block's payload (events.Digest); empty without blocks
}

// Writer writes an archive. It is for one goroutine at a time.
type Writer struct {
	w    *bufio.Writer
	tail Trailer
}

// NewWriter begins an archive that was made at a time.
func NewWriter(w io.Writer, made time.Time) (*Writer, error) {
	a := &Writer{w: bufio.NewWriterSize(w, 1<<16)}
	return a, a.line(Header{Kind, Format, made.UTC()})
}

// Add appends the payload of the next block.
func (a *Writer) Add(payload []byte) error {
	if len(payload) == 0 || len(payload) > maxPayload {
		return fmt.Errorf("add block to copy: %d bytes, want 1 to %d", len(payload), maxPayload)
	}
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(payload)))
	if _, err := a.w.Write(size[:]); err != nil {
		return fmt.Errorf("write copy of the log: %w", err)
	}
	if _, err := a.w.Write(payload); err != nil {
		return fmt.Errorf("write copy of the log: %w", err)
	}
	a.tail.Blocks++
	a.tail.Head = events.Digest(payload)
	return nil
}

// Close ends the archive and writes out what is left. It does not close or sync what it writes to.
func (a *Writer) Close() (Trailer, error) {
	if _, err := a.w.Write(make([]byte, 4)); err != nil {
		return a.tail, fmt.Errorf("write copy of the log: %w", err)
	}
	if err := a.line(a.tail); err != nil {
		return a.tail, err
	}
	if err := a.w.Flush(); err != nil {
		return a.tail, fmt.Errorf("write copy of the log: %w", err)
	}
	return a.tail, nil
}

func (a *Writer) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode line of the copy: %w", err)
	}
	if _, err := a.w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write copy of the log: %w", err)
	}
	return nil
}

// Read gives each block's payload to f, with its place counted from 1, and says what the file says of itself. The payload is f's to
// keep. Errors: ErrNotArchive, ErrVersion, ErrCut, ErrTrailer, f's own, or that of reading.
func Read(from io.Reader, f func(seq uint64, payload []byte) error) (Header, Trailer, error) {
	r := bufio.NewReaderSize(from, 1<<16)
	var h Header
	line, err := readLine(r)
	if errors.Is(err, errLong) || errors.Is(err, io.EOF) || err == nil && (json.Unmarshal(line, &h) != nil || h.Kind != Kind) {
		return h, Trailer{}, ErrNotArchive
	}
	if err != nil {
		return h, Trailer{}, fmt.Errorf("read copy of the log: %w", err)
	}
	if h.Format != Format {
		return h, Trailer{}, fmt.Errorf("read copy of form %d: %w", h.Format, ErrVersion)
	}
	var have Trailer
	for {
		payload, err := readBlock(r)
		if err != nil {
			return h, have, fmt.Errorf("read copy of the log after block %d: %w", have.Blocks, err)
		}
		if payload == nil {
			break
		}
		have.Blocks, have.Head = have.Blocks+1, events.Digest(payload)
		if err := f(have.Blocks, payload); err != nil {
			return h, have, err
		}
	}
	return h, have, checkTrailer(r, have)
}

func checkTrailer(r *bufio.Reader, have Trailer) error {
	line, err := readLine(r)
	var said Trailer
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("read end of the copy: %w", ErrCut)
	case errors.Is(err, errLong):
		return ErrTrailer
	case err != nil:
		return fmt.Errorf("read end of the copy: %w", err)
	case json.Unmarshal(line, &said) != nil || said != have:
		return ErrTrailer
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("something follows: %w", ErrTrailer)
	}
	return nil
}

var errLong = errors.New("the line is too long")

func readLine(r *bufio.Reader) ([]byte, error) {
	var out []byte
	for len(out) <= maxLine {
		b, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		if b == '\n' {
			return out, nil
		}
		out = append(out, b)
	}
	return nil, errLong
}

// readBlock gives nil at the length of 0 that ends the blocks.
func readBlock(r *bufio.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, cut(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 {
		return nil, nil
	}
	if n > maxPayload {
		return nil, fmt.Errorf("a block of %d bytes: %w", n, ErrNotArchive)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, cut(err)
	}
	return payload, nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}
