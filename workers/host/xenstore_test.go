package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// daemon answers as xenstored does (docs/misc/xenstore.txt), over a socket.
type daemon struct {
	mu      sync.Mutex
	nodes   map[string]string
	watcher net.Conn
	garbage bool // answer with a length that cannot be
}

func startDaemon(t *testing.T) (*daemon, string) {
	t.Helper()
	d := &daemon{nodes: map[string]string{}}
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go d.serve(c)
		}
	}()
	return d, path
}

func (d *daemon) serve(c net.Conn) {
	defer c.Close()
	for {
		kind, body, err := xsReceive(c)
		if err != nil {
			return
		}
		d.mu.Lock()
		answer, fault := d.answer(c, kind, body)
		garbage := d.garbage
		d.mu.Unlock()
		switch {
		case garbage:
			head := make([]byte, 16)
			binary.LittleEndian.PutUint32(head[12:], 1<<30)
			_, _ = c.Write(head)
		case fault != "":
			_ = xsSend(c, xsError, fault+"\x00")
		default:
			_ = xsSend(c, kind, answer)
		}
	}
}

func (d *daemon) answer(c net.Conn, kind uint32, body string) (answer, fault string) {
	path, rest, _ := strings.Cut(body, "\x00")
	switch kind {
	case xsRead:
		v, ok := d.nodes[path]
		if !ok {
			return "", "ENOENT"
		}
		return v, ""
	case xsWrite:
		d.nodes[path] = rest
		return "OK\x00", ""
	case xsRemove:
		if _, ok := d.nodes[path]; !ok {
			return "", "ENOENT"
		}
		delete(d.nodes, path)
		return "OK\x00", ""
	case xsWatch:
		d.watcher = c
		return "OK\x00", ""
	case xsDirectory, xsDirectoryPart:
		return d.list(kind, path, rest)
	}
	return "", "EINVAL"
}

func (d *daemon) list(kind uint32, path, rest string) (string, string) {
	var names []string
	for p := range d.nodes {
		if n, ok := strings.CutPrefix(p, path+"/"); ok {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "", "ENOENT"
	}
	slices.Sort(names)
	all := strings.Join(names, "\x00") + "\x00"
	if kind == xsDirectory {
		if len(all) > xsPayloadMax {
			return "", "E2BIG"
		}
		return all, ""
	}
	offset, err := strconv.Atoi(strings.TrimRight(rest, "\x00"))
	if err != nil || offset > len(all) {
		return "", "EINVAL"
	}
	const head = "7\x00"
	part := all[offset:min(len(all), offset+3000)]
	if offset+len(part) == len(all) {
		part += "\x00"
	}
	return head + part, ""
}

func TestXenstoreClient(t *testing.T) {
	d, path := startDaemon(t)
	x, ctx := &Xenstore{Socket: path}, t.Context()
	if _, err := x.Read(ctx, "/a"); !errors.Is(err, ErrNoNode) {
		t.Fatalf("missing node: %v", err)
	}
	if err := x.Write(ctx, "/a", "1\x00 2"); err != nil {
		t.Fatal(err)
	}
	if v, err := x.Read(ctx, "/a"); err != nil || v != "1\x00 2" {
		t.Fatalf("%q, %v", v, err)
	}
	for range 2 {
		if err := x.Remove(ctx, "/a"); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := x.Children(ctx, "/dir"); err != nil || len(names) != 0 {
		t.Fatalf("%v, %v", names, err)
	}
	want := []string{}
	for i := range 1500 {
		name := fmt.Sprintf("%06d", i)
		want = append(want, name)
		d.nodes["/dir/"+name] = ""
	}
	if names, err := x.Children(ctx, "/dir"); err != nil || !slices.Equal(names, want) {
		t.Fatalf("%d names of 1500 that do not fit in one message, %v", len(names), err)
	}
	d.garbage = true
	if _, err := x.Read(ctx, "/a"); !errors.Is(err, errWire) {
		t.Fatalf("garbage: %v", err)
	}
	d.garbage = false
	if err := x.Write(ctx, "/a", "again"); err != nil {
		t.Fatalf("after garbage, over a new connection: %v", err)
	}
}

func TestXenstoreGoneAndBack(t *testing.T) {
	x := &Xenstore{Socket: filepath.Join(t.TempDir(), "none")}
	if _, err := x.Read(t.Context(), "/a"); err == nil || errors.Is(err, ErrNoNode) {
		t.Fatalf("a missing daemon is not a missing node: %v", err)
	}
}

func TestWatch(t *testing.T) {
	d, path := startDaemon(t)
	ctx, cancel := context.WithCancel(t.Context())
	woken, done := make(chan struct{}, 10), make(chan error, 1)
	go func() {
		done <- (&Xenstore{Socket: path}).Watch(ctx, func() { woken <- struct{}{} })
	}()
	var c net.Conn
	for end := time.Now().Add(20 * time.Second); c == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		d.mu.Lock()
		c = d.watcher
		d.mu.Unlock()
	}
	if c == nil {
		t.Fatal("no watch was set")
	}
	if err := xsSend(c, xsWatchEvent, "@releaseDomain\x00ce\x00"); err != nil {
		t.Fatal(err)
	}
	<-woken
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func FuzzXenstoreAnswer(f *testing.F) {
	ok := &bytes.Buffer{}
	_ = xsSend(ok, xsRead, "value")
	f.Add(ok.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		_, body, err := xsReceive(bytes.NewReader(b))
		if err == nil && (len(body) > xsPayloadMax || len(body) > len(b)) {
			t.Fatalf("%d bytes of %d", len(body), len(b))
		}
	})
}
