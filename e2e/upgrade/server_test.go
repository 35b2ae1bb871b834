package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloudengine/commands/backup"
	"cloudengine/events"
	"cloudengine/projections"
)

// program builds this release's server.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloudengine")
	cmd := exec.Command("go", "build", "-o", path, "cloudengine/commands/cloudengine")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// dataWith makes a data directory with a log.
func dataWith(t *testing.T, payloads [][]byte) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	err := errors.Join(os.MkdirAll(data, 0o750), backup.LoadStream(t.Context(), filepath.Join(data, "streams"), func(add func(uint64, []byte) error) error {
		for i, p := range payloads {
			if err := add(uint64(i+1), p); err != nil {
				return err
			}
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// served is a server that runs, or has ended.
type served struct {
	t     *testing.T
	cmd   *exec.Cmd
	words bytes.Buffer
	ended chan error
	data  string
}

func serve(t *testing.T, program, data string, flags ...string) *served {
	t.Helper()
	s := &served{t: t, data: data, ended: make(chan error, 1)}
	s.cmd = exec.Command(program, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}, flags...)...)
	s.cmd.Env = append(os.Environ(), "HOME="+filepath.Dir(data))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	s.cmd.Stdout, s.cmd.Stderr = &s.words, &s.words
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.cmd.Wait(); close(s.ended) }()
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.ended })
	return s
}

// health is what the server says of itself; false: it is not ready.
func (s *served) health() (h struct {
	Applied    uint64 `json:"applied"`
	ReadModels uint64 `json:"read_models"`
	Error      string `json:"error"`
}, ok bool) {
	var where struct{ HTTP string }
	raw, err := os.ReadFile(filepath.Join(s.data, "endpoints.json"))
	if err != nil || json.Unmarshal(raw, &where) != nil {
		return h, false
	}
	answer, err := http.Get(where.HTTP + "/healthz")
	if err != nil {
		return h, false
	}
	defer answer.Body.Close()
	return h, json.NewDecoder(answer.Body).Decode(&h) == nil && answer.StatusCode == http.StatusOK
}

// end waits until the server has ended, and gives its words.
func (s *served) end() (string, error) {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return s.words.String(), err
	case <-time.After(3 * time.Minute):
		_ = s.cmd.Process.Kill()
		<-s.ended
		s.t.Fatalf("it does not end:\n%s", s.words.String())
		return "", nil
	}
}

// stored reads the log of a data directory.
func stored(t *testing.T, data string) (out [][]byte) {
	t.Helper()
	err := backup.ReadStream(filepath.Join(data, "streams"))(t.Context(), func(_, _ uint64, p []byte) error {
		out = append(out, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func begins(t *testing.T, log, with [][]byte) {
	t.Helper()
	if len(log) < len(with) {
		t.Fatalf("%d of %d blocks are left", len(log), len(with))
	}
	for i, p := range with {
		if !bytes.Equal(log[i], p) {
			t.Fatalf("block %d has changed", i+1)
		}
	}
}

// TestServerGoesOn: this release's server takes the logs, fills its tables from them, and goes on behind their ends.
func TestServerGoesOn(t *testing.T) {
	bin := program(t)
	for _, l := range logs(t) {
		t.Run(filepath.Base(l.name), func(t *testing.T) {
			data, want := dataWith(t, l.payloads), uint64(len(l.recorded()))
			s := serve(t, bin, data)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for end := time.Now().Add(3 * time.Minute); ; <-tick.C {
				if h, ok := s.health(); ok && h.Applied >= want && h.ReadModels >= want {
					break
				}
				if time.Now().After(end) {
					h, _ := s.health()
					_ = s.cmd.Process.Kill()
					words, _ := s.end()
					t.Fatalf("not ready: %+v, want %d decisions\n%s", h, want, words)
				}
			}
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if words, err := s.end(); err != nil || strings.Contains(words, "parked") {
				t.Fatalf("%v\n%s", err, words)
			}
			begins(t, stored(t, data), l.payloads)
		})
	}
}

// next makes the block that would follow a log.
func (l *log) next(t *testing.T, change func(*events.Block)) []byte {
	t.Helper()
	last := l.blocks[len(l.blocks)-1]
	b := &events.Block{Format: events.Format, Term: last.Term, First: last.Last() + 1, Time: last.Time.Add(time.Second), Prev: events.Digest(l.payloads[len(l.payloads)-1]),
		Decisions: []events.Decision{{Intent: "00000000-0000-4000-8000-000000000777", Actor: "admin", Kind: events.KindVM, Verb: "teleport", Outcome: events.Outcome{Status: events.Accepted}}}}
	change(b)
	raw, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// teleported is an event of a version that is not there yet, of a VM that is.
func (l *log) teleported(t *testing.T) []byte {
	t.Helper()
	var vm events.Event
	for _, r := range l.recorded() {
		for _, e := range r.Events {
			if e.Aggregate.Kind == events.KindVM {
				vm = e
			}
		}
	}
	return l.next(t, func(b *events.Block) {
		b.Decisions[0].Events = []events.Event{{Aggregate: vm.Aggregate, Version: vm.Version + 1, Type: "vm.teleported.v1",
			Data: events.Unknown{Type: "vm.teleported.v1", Raw: json.RawMessage(`{"to":"mars"}`)}}}
	})
}

// road gives a log that the last release's programs wrote.
func road(t *testing.T) *log {
	t.Helper()
	for _, l := range logs(t) {
		if strings.HasSuffix(l.name, "road.log") {
			return l
		}
	}
	t.Fatal("there is no road.log")
	return nil
}

// TestNewerFormatIsRefused: a block in a format of a newer version stops the start, is named, and stays as it is.
func TestNewerFormatIsRefused(t *testing.T) {
	l := road(t)
	payloads := append(l.payloads[:len(l.payloads):len(l.payloads)], l.next(t, func(b *events.Block) { b.Format = events.Format + 1 }))
	data := dataWith(t, payloads)
	words, err := serve(t, program(t), data).end()
	if err == nil || !strings.Contains(words, fmt.Sprintf("format %d", events.Format+1)) || !strings.Contains(words, "start that version, nothing is lost") {
		t.Errorf("%v\n%s", err, words)
	}
	unchanged(t, data, payloads)
}

func unchanged(t *testing.T, data string, payloads [][]byte) {
	t.Helper()
	after := stored(t, data)
	begins(t, after, payloads)
	if len(after) != len(payloads) {
		t.Errorf("%d blocks were written behind what is not understood", len(after)-len(payloads))
	}
}

// TestNewerEventStopsDeciding: an event of a newer version parks its object, nothing is decided on top of it, and health says why.
func TestNewerEventStopsDeciding(t *testing.T) {
	l := road(t)
	payloads := append(l.payloads[:len(l.payloads):len(l.payloads)], l.teleported(t))
	data := dataWith(t, payloads)
	alarm := make(chan string, 16)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		alarm <- string(body)
	}))
	defer hook.Close()
	s := serve(t, program(t), data, "--alert-webhook", hook.URL, "--alert-lag", "1s")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(3 * time.Minute); ; <-tick.C {
		if h, ok := s.health(); !ok && strings.Contains(h.Error, "vm.teleported.v1") && strings.Contains(h.Error, "start that version, nothing is lost") && h.ReadModels == h.Applied {
			break
		} else if time.Now().After(end) {
			_ = s.cmd.Process.Kill()
			words, _ := s.end()
			t.Fatalf("health: %+v\n%s", h, words)
		}
	}
	late := time.After(3 * time.Minute)
	for told := false; !told; { // a slow database or a full disk may be told of first
		select {
		case text := <-alarm:
			told = strings.Contains(text, `"rule":"stopped"`) && strings.Contains(text, "vm.teleported.v1")
		case <-late:
			t.Error("nobody was told that deciding has stopped")
			told = true
		}
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if words, err := s.end(); err != nil || !strings.Contains(words, "object is parked") {
		t.Errorf("%v\n%s", err, words)
	}
	unchanged(t, data, payloads)
}

// TestUnknownEventIsParked: the read models of a server that only follows park the object, in order, and go on with the others.
func TestUnknownEventIsParked(t *testing.T) {
	for _, l := range logs(t) {
		if !strings.HasSuffix(l.name, "core.log") {
			continue
		}
		b, err := events.DecodeBlock(l.teleported(t))
		if err != nil {
			t.Fatal(err)
		}
		rows := projections.NewMemory()
		for _, r := range append(l.recorded(), b.Recorded()...) {
			if err := rows.Apply(&r); err != nil {
				t.Fatal(err)
			}
		}
		p := rows.Parked()
		if len(p) != 1 || rows.At() != b.Last() {
			t.Fatalf("at %d: parked %+v", rows.At(), p)
		}
		if text := fmt.Sprintf("%+v", p[0]); !strings.Contains(text, "vm.teleported.v1") {
			t.Errorf("parked: %s", text)
		}
	}
}
