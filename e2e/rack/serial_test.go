package rack

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cable is a connection to a socket in a directory whose path is too long for a socket's address.
func cable(t *testing.T) (near, far net.Conn) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	l, err := net.Listen("unix", serialSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = dialIn(t.Context(), dir, serialSocket); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// terminal is a machine's console with a shell: it echoes, loses a character now and then, and others print on it too, also before a line has ended.
func terminal(t *testing.T, lose int) *serial {
	t.Helper()
	near, far := cable(t)
	go func() {
		line, n, buf := "", 0, make([]byte, 1)
		for {
			if _, err := far.Read(buf); err != nil {
				return
			}
			n++
			switch c := string(buf); {
			case n == lose:
			case c == eraseLine:
				line = ""
			case c == "\n":
				out, _ := exec.Command("sh", "-c", line).CombinedOutput()
				_, _ = far.Write([]byte("\r\r\n(XEN) d1v0 says something\r\n" + strings.ReplaceAll(strings.TrimSuffix(string(out), "\n"), "\n", "\r\r\n") + "uinit: something ended\r\n\r\r\n$ "))
				line = ""
			default:
				line += c
				_, _ = far.Write(buf)
			}
		}
	}()
	return &serial{conn: near}
}

func shellOn(t *testing.T, s *serial, command string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return s.run(ctx, command)
}

func TestShellOnASerialPort(t *testing.T) {
	s := terminal(t, 0)
	for command, want := range map[string]string{
		"echo hello": "hello", "printf 'no end of line'": "no end of line", "true": "",
		"printf 'a\\n(XEN) b\\n[   12.345678] c\\nuinit: d\\ne\\n'": "a\ne",
	} {
		if got, err := shellOn(t, s, command); err != nil || got != want {
			t.Errorf("%s: %q, %v", command, got, err)
		}
	}
	if got, err := shellOn(t, s, "echo why >&2; (exit 3)"); !errors.Is(err, ErrStatus) || got != "why" {
		t.Errorf("a command that fails: %q, %v", got, err)
	}
	for _, bad := range []string{"two\nlines", strings.Repeat("x", maxCommand+1), "caf\u00e9"} {
		if _, err := shellOn(t, s, bad); err == nil || errors.Is(err, ErrNoEcho) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestTypingSurvivesALostCharacter(t *testing.T) {
	defer func(d time.Duration) { echoTime = d }(echoTime)
	echoTime = 300 * time.Millisecond
	if got, err := shellOn(t, terminal(t, 30), "echo all of it, and in order"); err != nil || got != "all of it, and in order" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNobodyListens(t *testing.T) {
	defer func(d time.Duration) { echoTime = d }(echoTime)
	echoTime = 50 * time.Millisecond
	near, far := cable(t)
	go func() {
		buf := make([]byte, 100)
		for {
			if _, err := far.Read(buf); err != nil {
				return
			}
		}
	}()
	if _, err := shellOn(t, &serial{conn: near}, "true"); !errors.Is(err, ErrNoEcho) {
		t.Errorf("%v", err)
	}
}
