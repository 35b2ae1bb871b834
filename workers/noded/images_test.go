package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// TestImagesGoOnWhereTheyBrokeOff: a server that breaks each answer off is asked for the rest.
func TestImagesGoOnWhereTheyBrokeOff(t *testing.T) {
	whole := bytes.Repeat([]byte("image "), 10000)
	blob := events.Blob{SHA256: fmt.Sprintf("%x", sha256.Sum256(whole)), Size: int64(len(whole))}
	asked := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/blob/"+blob.SHA256 {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(&breaking{w, 25000}, r, "", time.Time{}, bytes.NewReader(whole))
	}))
	defer web.Close()
	f := images{base: web.URL + "/", pause: time.Millisecond}
	from, err := f.Fetch(t.Context(), blob)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if got, err := io.ReadAll(from); err != nil || !bytes.Equal(got, whole) || asked != 3 {
		t.Fatalf("%d bytes in %d answers: %v", len(got), asked, err)
	}
	if _, err := f.Fetch(t.Context(), events.Blob{SHA256: "other", Size: 1}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Fatalf("a blob that is not there: %v", err)
	}
}

// TestImagesEnd: a server that gives nothing any more is not asked for ever.
func TestImagesEnd(t *testing.T) {
	asked := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked > 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("begin"))
	}))
	defer web.Close()
	from, err := images{base: web.URL, pause: time.Millisecond}.Fetch(t.Context(), events.Blob{SHA256: "x", Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	got, err := io.ReadAll(from)
	if string(got) != "begin" || err == nil || !strings.Contains(err.Error(), "breaks off after 5 of 100 bytes") || asked != 1+downloadTries {
		t.Fatalf("%q, asked %d times: %v", got, asked, err)
	}
}

// breaking is an answer that breaks off.
type breaking struct {
	http.ResponseWriter
	left int
}

var errBreak = errors.New("it breaks")

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		n, _ := b.ResponseWriter.Write(p[:b.left])
		b.left = 0
		return n, errBreak
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}
