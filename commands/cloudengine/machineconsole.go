package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) machineConsole() *cobra.Command {
	var write bool
	var length time.Duration
	cmd := &cobra.Command{
		Use: "console NAME|ID", Short: "Open a machine's serial console over its BMC (IPMI Serial over LAN)", Args: cobra.ExactArgs(1),
		Long: `Open a machine's serial console over its BMC, through the server, until Ctrl-C, or with --write until ~. at the beginning of a line (~~ types one ~).
Without --write nothing is typed, and what the machine prints is shown without control characters. Role operate of the platform; --write
needs admin. One console is open at a time for each machine.`,
		Example:           "  cloudengine machine console host1\n  cloudengine machine console host1 --write",
		ValidArgsFunction: a.complete(events.KindMachine),
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			if length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, length)
				defer cancel()
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			m, err := a.find(ctx, c, events.KindMachine, words[0])
			if err != nil {
				return err
			}
			opening, cancel := context.WithTimeout(ctx, answerTime)
			defer cancel()
			console, err := c.OpenMachineConsole(opening, m.text("id"), write)
			if err != nil {
				return err
			}
			a.talk("console of %s; end with %s", nameOf(m), map[bool]string{true: "~. at the beginning of a line", false: "Ctrl-C"}[write])
			return a.useConsole(ctx, console, write)
		},
	}
	cmd.Flags().BoolVar(&write, "write", false, "also type")
	cmd.Flags().DurationVar(&length, "for", 0, "end after so long (0: when interrupted)")
	return cmd
}

// useConsole carries a console until ctx ends, the machine's side ends, or the user leaves it.
func (a *app) useConsole(ctx context.Context, console *client.MachineConsole, write bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var typing sync.WaitGroup
	var typed error
	if write {
		restore := rawTerminal(a.in)
		defer restore()
		input := make(chan []byte)
		go readInput(ctx, a.in, input) // it ends with the program: a read of the terminal cannot be interrupted
		typing.Go(func() { typed = typeOn(ctx, console, input); cancel() })
	}
	err := a.showConsole(ctx, console, write)
	cancel()
	typing.Wait()
	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	return errors.Join(err, typed, console.Close(closing))
}

// showConsole prints what the machine prints. With raw it is the terminal's to understand, as the user wants to work on it.
func (a *app) showConsole(ctx context.Context, console *client.MachineConsole, raw bool) error {
	for {
		data, over, err := console.Read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !raw {
			data = []byte(printable(data))
		}
		if _, err := a.out.Write(data); err != nil {
			return fmt.Errorf("print console: %w", err)
		}
		if over {
			return errors.New("the console has ended: its BMC closed it, or another server is the active one now")
		}
	}
}

// readInput hands over what the user types. It closes the channel at the end of the input.
func readInput(ctx context.Context, in io.Reader, to chan<- []byte) {
	defer close(to)
	for {
		buf := make([]byte, 256)
		n, err := in.Read(buf)
		if n > 0 {
			select {
			case to <- buf[:n]:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// typeOn sends what the user types until ~. at the beginning of a line. The end of the input does not end the console.
func typeOn(ctx context.Context, console *client.MachineConsole, input <-chan []byte) error {
	e := escape{lineStart: true}
	for {
		select {
		case <-ctx.Done():
			return nil
		case text, more := <-input:
			if !more {
				<-ctx.Done()
				return nil
			}
			text, leave := e.take(text)
			if err := console.Type(ctx, text); err != nil && ctx.Err() == nil {
				return err
			}
			if leave {
				return nil
			}
		}
	}
}

// escape finds ~. at the beginning of a line.
type escape struct{ lineStart, tilde bool }

// take gives what is to be typed, and whether the user leaves.
func (e *escape) take(text []byte) (typed []byte, leave bool) {
	for _, c := range text {
		if e.tilde {
			e.tilde = false
			switch c {
			case '.':
				return typed, true
			case '~':
			default:
				typed = append(typed, '~')
			}
		} else if c == '~' && e.lineStart {
			e.tilde = true
			continue
		}
		typed = append(typed, c)
		e.lineStart = c == '\r' || c == '\n'
	}
	return typed, false
}

// rawTerminal lets every key through to the console. It gives what undoes it.
func rawTerminal(in io.Reader) (restore func()) {
	f, ok := in.(*os.File)
	if !ok {
		return func() {}
	}
	old, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return func() {} // it is no terminal
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw) != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, old) }
}
