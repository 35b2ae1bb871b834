package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// program builds one of our programs, once, and gives its path.
func (b *bench) program(ctx context.Context, name, pkg string) (string, error) {
	path := filepath.Join(b.dir, name)
	if b.built[name] {
		return path, nil
	}
	b.say("build %s", name)
	if err := quietly(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	b.built[name] = true
	return path, nil
}

func (b *bench) cloudengine(ctx context.Context) (string, error) {
	return b.program(ctx, "cloudengine", "./commands/cloudengine")
}

// quietly runs a program to its end; what it prints is in the error if it fails.
func quietly(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = ownEnv("CGO_ENABLED=0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out[max(0, len(out)-2000):])
	}
	return nil
}

// output runs a program to its end and gives what it printed; what it complained about is in the error if it fails.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = ownEnv()
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		said := complaint.Bytes()
		return out.String(), fmt.Errorf("run %s: %w: %s", strings.Join(args, " "), err, said[max(0, len(said)-2000):])
	}
	return out.String(), nil
}

// ownEnv is our environment without the settings of cloudengine that somebody may have in theirs.
func ownEnv(more ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "CLOUDENGINE_") {
			env = append(env, e)
		}
	}
	return append(env, more...)
}

// child is a process that runs until it is stopped.
type child struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // read it after done
}

// launch starts a program whose output goes to a file.
func launch(name, log, path string, args ...string) (*child, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer out.Close()
	c := &child{name: name, cmd: exec.Command(path, args...), log: log, done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.Env = out, out, ownEnv()
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us; we stop it in order
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process
		defer close(c.done)
		c.err = c.cmd.Wait()
	}()
	return c, nil
}

// stop asks the process to end, waits, and kills it if it does not.
func (c *child) stop() error {
	if c == nil {
		return nil
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-c.done:
		return nil
	case <-time.After(30 * time.Second):
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	return fmt.Errorf("%s did not end within 30 s and was killed", c.name)
}

// until polls ok while the process lives, up to limit.
func (c *child) until(ctx context.Context, limit time.Duration, what string, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last: %w", what, ctx.Err(), err)
		case <-c.done:
			tail, _ := os.ReadFile(c.log)
			return errors.Join(fmt.Errorf("wait for %s: %s has ended: %s", what, c.name, tail[max(0, len(tail)-1500):]), c.err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
