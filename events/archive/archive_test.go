package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"cloudengine/events/archive"
)

func made(t testing.TB, blocks ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := archive.NewWriter(&out, time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if err := w.Add([]byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(b []byte) (blocks []string, err error) {
	_, tail, err := archive.Read(bytes.NewReader(b), func(seq uint64, p []byte) error {
		blocks = append(blocks, string(p))
		if seq != uint64(len(blocks)) {
			return fmt.Errorf("block %d came as number %d", seq, len(blocks))
		}
		return nil
	})
	if err == nil && tail.Blocks != uint64(len(blocks)) {
		err = fmt.Errorf("%d blocks, the trailer says %d", len(blocks), tail.Blocks)
	}
	return blocks, err
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, want := range [][]string{nil, {"a"}, {"{}", "second", "\n\x00third"}} {
		got, err := read(made(t, want...))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
}

func TestDamage(t *testing.T) {
	whole := made(t, "first", "second")
	for n := range len(whole) {
		if _, err := read(whole[:n]); !errors.Is(err, archive.ErrCut) && !errors.Is(err, archive.ErrNotArchive) {
			t.Errorf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
	}
	newer := bytes.Replace(whole, []byte(`"format":1`), []byte(`"format":2`), 1)
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"empty":            {nil, archive.ErrNotArchive},
		"other file":       {[]byte("#!/bin/sh\necho\n"), archive.ErrNotArchive},
		"newer":            {newer, archive.ErrVersion},
		"last block other": {bytes.Replace(whole, []byte("second"), []byte("tampe!"), 1), archive.ErrTrailer},
		"something behind": {append(bytes.Clone(whole), 'x'), archive.ErrTrailer},
	} {
		if _, err := read(c.file); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	stop := errors.New("stop")
	if _, _, err := archive.Read(bytes.NewReader(whole), func(uint64, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's own error became %v", err)
	}
}

func TestWriterRefuses(t *testing.T) {
	w, err := archive.NewWriter(&bytes.Buffer{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if w.Add(nil) == nil || w.Add(make([]byte, 9<<20)) == nil {
		t.Error("an empty or a huge block was taken")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(made(f, "first", "second"))
	f.Add([]byte("{\"kind\":\"cloudengine log\",\"format\":1}\n\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if blocks, err := read(b); err == nil {
			if again, err := read(made(t, blocks...)); err != nil || fmt.Sprint(again) != fmt.Sprint(blocks) {
				t.Errorf("written again it reads as %q, %v", again, err)
			}
		}
	})
}
