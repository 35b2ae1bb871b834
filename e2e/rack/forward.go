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
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxForwarded bounds the connections of one forward at a time.
const maxForwarded = 1024

func (r *Rack) forwardProcess(i int) process {
	return process{
		pidFile: filepath.Join(r.cfg.Dir, "forward-"+strconv.Itoa(i)+".pid"),
		mark:    "\x00" + helperForward + "\x00" + r.cfg.Dir + "\x00" + r.cfg.Forwards[i].Listen + "\x00",
		logFile: filepath.Join(r.cfg.Dir, "forward-"+strconv.Itoa(i)+".log"),
		signal:  unix.SIGTERM,
	}
}

// ensureForward starts this program again as a forward, so that it lives as long as the rack.
func (r *Rack) ensureForward(ctx context.Context, i int, f Forward) error {
	p := r.forwardProcess(i)
	if on, err := p.running(); err != nil || on {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.Command(self, helperWord, helperForward, r.cfg.Dir, f.Listen, f.Target)
	if err := p.launch(cmd, (*exec.Cmd).Start); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		on, err := p.running()
		if err != nil {
			return err
		}
		if !on {
			last, _ := lastLines(p.logFile, 3)
			return fmt.Errorf("it ended at once: %q", last)
		}
		if conn, err := net.DialTimeout("tcp", f.Listen, time.Second); err == nil {
			return conn.Close()
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("it does not listen within 10 s")
}

func forward(ctx context.Context, dir, listen, target string) error {
	r, err := Open(dir)
	if err != nil {
		return err
	}
	return r.Forward(ctx, listen, target)
}

// Forward leads TCP connections from listen, in the namespace of the caller, to target inside the
// rack, until ctx ends. A connection whose target refuses is closed.
func (r *Rack) Forward(ctx context.Context, listen, target string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for forward: %w", err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	free := make(chan struct{}, maxForwarded)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", listen, err)
		}
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			r.carry(ctx, conn, target)
		})
	}
}

// carry joins one connection with a new one inside, both ways, until either side is done with both
// directions or ctx ends.
func (r *Rack) carry(ctx context.Context, outside net.Conn, target string) {
	defer outside.Close()
	dialCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	inside, err := r.Dial(dialCtx, "tcp", target)
	if err != nil {
		return // the client sees its connection closed; the target may be restarting
	}
	defer inside.Close()
	stop := context.AfterFunc(ctx, func() { outside.Close(); inside.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pipe(inside, outside) })
	both.Go(func() { pipe(outside, inside) })
	both.Wait()
}

func pipe(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
