package rack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A machine's controller offers its serial port over LAN. The simulator wants a TCP server for it, and would hold QEMU's one connection for
// ever; so a helper stands between. It shows what the port prints by reading the serial log, which QEMU writes whoever is connected, and takes
// the port itself only while something is typed. Shell and Type work beside it.

const (
	helperSerial = "serial"
	solPort      = 7000 // of machine 1 is 7001, on loopback in the rack's namespace
	solLook      = 50 * time.Millisecond
	solHold      = 500 * time.Millisecond // how long the port is held after the last byte was typed
)

func (m Machine) solAddress() string { return "127.0.0.1:" + strconv.Itoa(solPort+m.Number) }

func (m Machine) serialProcess() process {
	return process{
		pidFile: filepath.Join(m.dir, "sol.pid"),
		mark:    "\x00" + helperSerial + "\x00" + m.dir + "\x00",
		logFile: filepath.Join(m.dir, "sol.log"),
		signal:  unix.SIGTERM,
	}
}

// ensureSerial starts this program again as the helper of a machine's serial port.
func (r *Rack) ensureSerial(m Machine) error {
	p := m.serialProcess()
	if on, err := p.running(); err != nil || on {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	return p.launch(exec.Command(self, helperWord, helperSerial, m.dir, m.SerialLog, m.solAddress()), r.Start)
}

// serveSerial is the helper: it serves one controller at a time until ctx ends.
func serveSerial(ctx context.Context, dir, log, listen string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for the controller: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", listen, err)
		}
		if err := joinSerial(ctx, conn, dir, log); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// joinSerial carries one connection until it or ctx ends.
func joinSerial(ctx context.Context, conn net.Conn, dir, log string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	shown := make(chan error, 1)
	go func() { defer cancel(); shown <- follow(ctx, conn, log) }()
	err := typeFrom(ctx, conn, dir)
	cancel()
	return errors.Join(err, <-shown)
}

// follow writes what is added to a file from now on, until ctx ends.
func follow(ctx context.Context, to io.Writer, path string) error {
	var f *os.File
	defer func() { f.Close() }() // nil is taken
	for {
		if f == nil {
			var err error
			if f, err = os.Open(path); err == nil {
				_, err = f.Seek(0, io.SeekEnd)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("follow serial log: %w", err)
			}
		}
		if f != nil {
			if _, err := io.Copy(to, f); err != nil {
				return fmt.Errorf("show serial log: %w", err)
			}
		}
		if pause(ctx, solLook) != nil {
			return nil
		}
	}
}

// typeFrom types what comes on the machine's serial port, until the connection ends.
func typeFrom(ctx context.Context, from io.Reader, dir string) error {
	buf := make([]byte, typedAtOnce)
	var port *heldPort
	defer func() { port.release() }()
	typed := make(chan []byte)
	ended := make(chan error, 1)
	go func() {
		for {
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case typed <- append([]byte(nil), buf[:n]...):
				case <-ctx.Done():
				}
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for {
		select {
		case text := <-typed:
			var err error
			if port == nil {
				if port, err = holdPort(ctx, dir); err != nil {
					return err
				}
			}
			if _, err = port.Write(text); err != nil {
				port.release()
				port = nil // the machine is off
			}
		case <-time.After(solHold):
			port.release()
			port = nil
		case err := <-ended:
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read from the controller: %w", err)
		}
	}
}

// heldPort is a connection to the serial port that no Type or Shell uses meanwhile.
type heldPort struct {
	net.Conn
	lock *os.File
}

func holdPort(ctx context.Context, dir string) (*heldPort, error) {
	lock, err := lockSerial(ctx, dir)
	if err != nil {
		return nil, err
	}
	conn, err := dialIn(ctx, dir, serialSocket)
	if err != nil { // off: what is typed is lost, as on a dead line
		return &heldPort{lock: lock}, nil
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // it is in the log too; ends when the connection does
	return &heldPort{Conn: conn, lock: lock}, nil
}

// Write types on the port, if there is one.
func (h *heldPort) Write(p []byte) (int, error) {
	if h.Conn == nil {
		return len(p), nil
	}
	return h.Conn.Write(p)
}

func (h *heldPort) release() {
	if h == nil {
		return
	}
	if h.Conn != nil {
		h.Conn.Close()
	}
	h.lock.Close()
}
