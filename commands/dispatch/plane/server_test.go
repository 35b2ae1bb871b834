package plane_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// startServer starts a child process. The test ends it.
func startServer(t *testing.T, cfg childConfig) *server {
	t.Helper()
	s := &server{t: t, cfg: cfg}
	s.start()
	t.Cleanup(func() {
		_ = s.proc.Signal(syscall.SIGCONT)
		s.kill()
		if t.Failed() {
			for _, line := range s.output {
				t.Log(s.cfg.Name, line)
			}
		}
	})
	return s
}

func (s *server) start() {
	s.t.Helper()
	text, err := json.Marshal(s.cfg)
	must(s.t, err)
	in, inW, err := os.Pipe()
	must(s.t, err)
	outR, out, err := os.Pipe()
	must(s.t, err)
	exe, err := os.Executable()
	must(s.t, err)
	s.proc, err = os.StartProcess(exe, []string{exe}, &os.ProcAttr{
		Env: append(os.Environ(), childEnv+"="+string(text)), Files: []*os.File{in, out, out},
	})
	must(s.t, err)
	_ = in.Close()
	_ = out.Close()
	s.in, s.done = inW, make(chan struct{})
	go s.listen(outR, s.done)
}

func (s *server) listen(out *os.File, done chan struct{}) {
	defer close(done)
	for sc := bufio.NewScanner(out); sc.Scan(); {
		line := sc.Text()
		s.mu.Lock()
		switch {
		case strings.HasPrefix(line, "ready "):
			s.url = strings.TrimPrefix(line, "ready ")
		case line == "active":
			s.active = true
		case line == "idle":
			s.active = false
		default:
			if len(s.output) < 200 {
				s.output = append(s.output, line)
			}
		}
		s.mu.Unlock()
	}
	_ = out.Close()
}

// kill sends SIGKILL and waits.
func (s *server) kill() {
	_ = s.proc.Kill()
	_, _ = s.proc.Wait()
	_ = s.in.Close()
	<-s.done
	s.mu.Lock()
	s.active, s.url = false, ""
	s.mu.Unlock()
}

func (s *server) isActive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

func (s *server) isReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url != ""
}

var nextPort atomic.Int32

// freeAddress gives a loopback address that nobody listens on now, and each only once: below the range that the kernel hands out by itself,
// where somebody else could get it while a server is down.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 8000+(int(nextPort.Add(1))+os.Getpid()*13)%12000))
		if err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func within(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
