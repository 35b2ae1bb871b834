package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloudengine/events/feed/alerts"
)

// hook is a receiver of alerts: it refuses all until it is opened.
type hook struct {
	*httptest.Server
	mu    sync.Mutex
	open  bool
	tries int
	came  map[string]int // by id.edge
	bad   []string
}

func newHook(t *testing.T) *hook {
	h := &hook{came: map[string]int{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		var m alerts.Message
		h.mu.Lock()
		defer h.mu.Unlock()
		h.tries++
		id := q.Header.Get(alerts.HeaderAlert)
		if err != nil || json.Unmarshal(body, &m) != nil || m.ID+"."+m.Edge != id ||
			q.Header.Get(alerts.HeaderSignature) != alerts.Sign([]byte("shared"), q.Header.Get(alerts.HeaderTimestamp), body) {
			h.bad = append(h.bad, id)
		}
		if !h.open {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if m.Alert.Rule != "disk" { // that of the machine which runs the test may be full
			h.came[m.Alert.Rule+" "+id]++
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) look(f func() bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f()
}

// alertLab is a server that tells a hook, and how it is commanded.
type alertLab struct {
	t        *testing.T
	dir, bin string
	hook     *hook
	p        *process
	url      string
}

func (l *alertLab) serve() {
	l.t.Helper()
	where := filepath.Join(l.dir, "data", endpointsFile)
	if err := removeIfThere(where); err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command(l.bin, "serve", "--data", filepath.Join(l.dir, "data"), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--alert-webhook", l.hook.URL, "--alert-webhook-secret-file", filepath.Join(l.dir, "secret"))
	cmd.Env = append(os.Environ(), "HOME="+l.dir)
	var err error
	if l.p, err = start(cmd, filepath.Join(l.dir, "log")); err != nil {
		l.t.Fatal(err)
	}
	l.await("the server", func() bool { l.url = endpointsOf(filepath.Join(l.dir, "data")); return l.url != "" })
}

func (l *alertLab) await(what string, ok func() bool) {
	l.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(60 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			l.t.Fatalf("waited for %s\n%s", what, lastLines(l.p.log, 30))
		}
	}
}

func (l *alertLab) ask(args ...string) (string, error) {
	cmd := exec.Command(l.bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+l.dir, "CLOUDENGINE_SERVER="+l.url, "CLOUDENGINE_NKEY="+filepath.Join(l.dir, "data", adminKeyFile))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (l *alertLab) must(args ...string) string {
	l.t.Helper()
	out, err := l.ask(args...)
	if err != nil {
		l.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

func (l *alertLab) listed() (out []alerts.Record) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(l.must("alert", "ls", "--all", "-o", "json")), &out); err != nil {
		l.t.Fatal(err)
	}
	return slices.DeleteFunc(out, func(r alerts.Record) bool { return r.Rule == "disk" }) // as above
}

// TestAlertsOutliveKills: an alert is raised while its receiver is away, the server is killed, twice, and the receiver hears of the raise
// and of the end, each under its one id.
func TestAlertsOutliveKills(t *testing.T) {
	l := &alertLab{t: t, dir: t.TempDir(), hook: newHook(t)}
	program, err := os.Executable()
	l.bin = filepath.Join(l.dir, "cloudengine")
	if err = errors.Join(err, os.Symlink(program, l.bin), os.WriteFile(filepath.Join(l.dir, "secret"), []byte("shared\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	l.serve()
	defer func() { _ = l.p.end(syscall.SIGKILL) }()
	l.must("log", "reopen", "--reason", "a drill")
	l.await("the first try", func() bool { return l.hook.look(func() bool { return l.hook.tries > 0 }) })
	_ = l.p.end(syscall.SIGKILL)
	l.serve()
	l.await("the alert to be listed", func() bool { out, err := l.ask("alert", "ls"); return err == nil && strings.Contains(out, "term") })
	id := l.listed()[0].ID
	tries := 0
	l.hook.look(func() bool { tries = l.hook.tries; return true })
	l.await("a try of the second life", func() bool { return l.hook.look(func() bool { return l.hook.tries > tries }) })
	_ = l.p.end(syscall.SIGKILL)
	l.hook.look(func() bool { l.hook.open = true; return true })
	l.serve()
	raised, cleared := "term "+id+".raised", "term "+id+".cleared"
	l.await("the raise", func() bool { return l.hook.look(func() bool { return l.hook.came[raised] > 0 }) })
	l.await("acknowledging", func() bool { _, err := l.ask("alert", "ack", id[:8], "--reason", "it was me"); return err == nil })
	l.await("the end", func() bool { return l.hook.look(func() bool { return l.hook.came[cleared] > 0 }) })
	l.hook.look(func() bool {
		if len(l.hook.bad) > 0 || l.hook.came[raised] != 1 || l.hook.came[cleared] != 1 || len(l.hook.came) != 2 {
			t.Errorf("came: %v; bad: %v", l.hook.came, l.hook.bad)
		}
		return true
	})
	if out := l.must("alert", "ls"); strings.Contains(out, id) {
		t.Errorf("it is still open:\n%s", out)
	}
	if list := l.listed(); len(list) != 1 || list[0].AckReason != "it was me" || !slices.ContainsFunc(list[0].Sent, func(s alerts.Sending) bool { return s.Attempts > 1 }) {
		t.Errorf("the book: %+v", list)
	}
	if err := l.p.end(syscall.SIGTERM); err != nil {
		t.Error(fmt.Errorf("stop: %w\n%s", err, lastLines(l.p.log, 20)))
	}
}
