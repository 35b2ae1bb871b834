package rack

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// serialSocket is the machine's serial port, in its directory: QEMU listens there, for one connection at a time.
const serialSocket = "serial.sock"

// Typing. The line that Xen keeps of what was typed holds 128 bytes, and what is too much is lost in silence: so little is typed at
// once, and its echo awaited.
const (
	typedAtOnce = 12 // bytes
	typeTries   = 4
	maxCommand  = 3000 // bytes; the terminal's own line ends at 4095
	eraseLine   = "\x15"
)

// echoTime is how long an echo is awaited: an emulated machine may be busy. Tests have less patience.
var echoTime = 10 * time.Second

// Errors of Type and Shell.
var (
	ErrNoEcho = errors.New("the machine does not echo what is typed: nobody listens on its serial port")
	ErrStatus = errors.New("the command ended with an error")
	errSyntax = errors.New("the shell ended: it does not understand the line")
)

// Type types a line on a machine's serial port and presses return. It waits for the echo, so something must read the line there: the
// shell, for one, that the word ce.shell on the control domain's command line puts on the console.
func (r *Rack) Type(ctx context.Context, name, line string) error {
	return r.withSerial(ctx, name, func(s *serial) error {
		if err := s.typeLine(ctx, line); err != nil {
			return err
		}
		return s.write("\n")
	})
}

// Shell runs a command in the shell on a machine's console (see Type) and gives what it printed, standard output and errors, without the
// lines that the hypervisor, the kernel and init print there meanwhile. A command that ends with another status than 0 gives its
// output and ErrStatus. What it leaves running in the background, as in ( command & ), must not print. Only one Shell or Type works on
// a machine at a time; others wait. A command that is given up by ctx goes on, and the next one waits for its end.
func (r *Rack) Shell(ctx context.Context, name, command string) (output string, err error) {
	err = r.withSerial(ctx, name, func(s *serial) error {
		output, err = s.run(ctx, command)
		return err
	})
	if err != nil {
		return output, fmt.Errorf("run %q in the shell: %w", command, err)
	}
	return output, nil
}

// serial is a connection to a machine's serial port.
type serial struct {
	conn net.Conn
	got  []byte // all that came
}

// withSerial connects to a machine's serial port and holds it for f.
func (r *Rack) withSerial(ctx context.Context, name string, f func(*serial) error) error {
	m, err := r.Machine(name)
	if err != nil {
		return err
	}
	lock, err := lockSerial(ctx, m.dir)
	if err != nil {
		return fmt.Errorf("machine %s: %w", name, err)
	}
	defer lock.Close()
	conn, err := dialIn(ctx, m.dir, serialSocket)
	if err != nil {
		return fmt.Errorf("connect to the serial port of %s: %w", name, err)
	}
	defer conn.Close()
	if err := f(&serial{conn: conn}); err != nil {
		return fmt.Errorf("machine %s: %w", name, err)
	}
	return nil
}

// lockSerial waits until nobody else types on the serial port of the machine in dir. Closing the file lets go of it.
func lockSerial(ctx context.Context, dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "serial.lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the serial port: %w", err)
	}
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock serial port: %w", err), lock.Close())
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, errors.Join(fmt.Errorf("wait for the serial port: %w", err), lock.Close())
		}
	}
}

// dialIn connects to a socket in a directory whose path may be longer than a socket's address (108 bytes).
func dialIn(ctx context.Context, dir, name string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name))
}

func (s *serial) write(text string) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(echoTime)); err != nil {
		return err
	}
	if _, err := s.conn.Write([]byte(text)); err != nil {
		return fmt.Errorf("type: %w", err)
	}
	return nil
}

// await reads until found says so. It gives up at the end of ctx, and after limit if that is not 0.
func (s *serial) await(ctx context.Context, limit time.Duration, found func() bool) (bool, error) {
	began := time.Now()
	buf := make([]byte, 4096)
	for !found() {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if limit > 0 && time.Since(began) > limit {
			return false, nil
		}
		if err := s.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return false, err
		}
		n, err := s.conn.Read(buf)
		s.got = append(s.got, buf[:n]...)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return false, fmt.Errorf("read serial port: %w", err)
		}
	}
	return true, nil
}

// typeLine types a line without return. A line whose echo has a gap, or noise in it, is erased and typed again.
func (s *serial) typeLine(ctx context.Context, line string) error {
	for i := range len(line) {
		if line[i] < ' ' || line[i] > '~' {
			return fmt.Errorf("type %q: want printable ASCII", line)
		}
	}
	for range typeTries {
		if err := s.write(eraseLine); err != nil {
			return err
		}
		ok, err := s.typeOnce(ctx, line)
		if ok || err != nil {
			return err
		}
	}
	return ErrNoEcho
}

func (s *serial) typeOnce(ctx context.Context, line string) (bool, error) {
	for from := 0; from < len(line); from += typedAtOnce {
		part := line[from:min(from+typedAtOnce, len(line))]
		seen := len(s.got)
		if err := s.write(part); err != nil {
			return false, err
		}
		ok, err := s.await(ctx, echoTime, func() bool { return bytes.Contains(s.got[seen:], []byte(part)) })
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// run types a command between two marks, and gives what is printed between them.
func (s *serial) run(ctx context.Context, command string) (string, error) {
	if strings.ContainsAny(command, "\r\n") || len(command) > maxCommand {
		return "", fmt.Errorf("want one line of at most %d bytes", maxCommand)
	}
	var mark [4]byte
	if _, err := rand.Read(mark[:]); err != nil {
		return "", fmt.Errorf("make a mark: %w", err)
	}
	id := hex.EncodeToString(mark[:])
	// The echo of the line must not look like the marks, hence the quotes.
	if err := s.typeLine(ctx, "echo ce''B"+id+"; "+command+"; echo ce''E"+id+":$?."); err != nil {
		return "", err
	}
	if err := s.write("\n"); err != nil {
		return "", err
	}
	return s.between(ctx, "ceB"+id, "ceE"+id+":")
}

// between waits for the two marks, and gives what is printed between them, and the status behind the second.
func (s *serial) between(ctx context.Context, begin, end string) (string, error) {
	ending := regexp.MustCompile(regexp.QuoteMeta(end) + `(\d+)\.`) // and not the line's end: init may write between the two
	var at []int
	died := false // the shell ends when it cannot parse a line, and init starts another
	_, err := s.await(ctx, 0, func() bool {
		at, died = ending.FindSubmatchIndex(s.got), bytes.Contains(s.got, []byte("uinit: shell ended"))
		return at != nil || died
	})
	if err == nil && at == nil {
		err = errSyntax
	}
	if err != nil {
		tail := s.got[max(0, len(s.got)-500):]
		return "", fmt.Errorf("wait for its end: %w (the end of what came: %q)", err, tail)
	}
	text := string(s.got[:at[0]])
	_, text, ok := strings.Cut(text, begin)
	if !ok {
		return "", fmt.Errorf("its beginning was lost; what came: %q", s.got)
	}
	text = withoutNoise(text)
	status, err := strconv.Atoi(string(s.got[at[2]:at[3]]))
	if err != nil || status != 0 {
		return text, fmt.Errorf("%w: status %s: %s", ErrStatus, s.got[at[2]:at[3]], text)
	}
	return text, nil
}

// noise is what others print on a machine's console: the hypervisor, the kernel, init.
var noise = regexp.MustCompile(`^(\(XEN\) |\[ *\d+\.\d+\] |uinit: |20\d\d/\d\d/\d\d \d\d:\d\d:\d\d )`)

func withoutNoise(text string) string {
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r", ""), "\n") {
		if !noise.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}
