package power

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// serialPort is a machine's serial port as the simulator wants it: a TCP server.
func serialPort(t *testing.T) (address string, port chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = make(chan net.Conn, 4)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			port <- c
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), port
}

// oneMachine is a State with one machine.
type oneMachine struct{ m Machine }

func (o oneMachine) OperationOpen(events.IntentID) bool          { return false }
func (o oneMachine) Machine(id events.MachineID) (Machine, bool) { return o.m, id == o.m.ID }
func (o oneMachine) Machines() []Machine                         { return []Machine{o.m} }
func (o oneMachine) secret(string) ([]byte, error)               { return []byte(testPassword), nil }

func newConsoles(t *testing.T, m Machine, connect ConnectConsole) *Consoles {
	t.Helper()
	c := NewConsoles(ConsolesConfig{State: oneMachine{m}, Connect: connect, Secret: oneMachine{m}.secret})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the consoles do not end")
		}
	})
	for { // until Run runs
		c.mu.Lock()
		running := c.ctx != nil
		c.mu.Unlock()
		if running {
			return c
		}
	}
}

// reads reads a console until a text came.
func (c *Consoles) reads(t *testing.T, id, want string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got strings.Builder
	for at := uint64(0); !strings.Contains(got.String(), want); {
		data, next, over, err := c.Read(ctx, id, at)
		if ctx.Err() != nil || err != nil || over {
			t.Fatalf("read %q, over %v, %v; want %q", got.String(), over, err, want)
		}
		got.Write(data)
		at = next
	}
	return got.String()
}

// TestConsoleOverLAN: what a machine prints arrives whole and in order, and what is typed reaches it, through a real RMCP+ server.
func TestConsoleOverLAN(t *testing.T) {
	address, port := serialPort(t)
	sim := mustSimulator(t, "  sol \"tcp:"+address+"\" 115200\n")
	m := Machine{ID: "m1", Name: "host1", BMC: &events.BMC{Address: sim.target.Address, User: sim.target.User, Secret: "s"}}
	c := newConsoles(t, m, IPMI{Suites: []uint8{3}}.Console)
	id, err := c.Open(t.Context(), "m1", "ann", true)
	if err != nil {
		t.Fatalf("%v; the simulator's log: %s", err, sim.read("log"))
	}
	var serial net.Conn
	select {
	case serial = <-port:
	case <-time.After(10 * time.Second):
		t.Fatal("the controller does not connect to the serial port")
	}
	defer serial.Close()
	var want strings.Builder
	for i := range 60 {
		fmt.Fprintf(&want, "line %d of the boot\r\n", i)
	}
	if _, err := io.WriteString(serial, want.String()); err != nil {
		t.Fatal(err)
	}
	if got := c.reads(t, id, "line 59 of the boot\r\n"); got != want.String() {
		t.Errorf("read %q", got)
	}
	if err := c.Type(t.Context(), id, []byte("root\r")); err != nil {
		t.Fatal(err)
	}
	typed := make([]byte, 5)
	must := serial.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(serial, typed); must != nil || err != nil || string(typed) != "root\r" {
		t.Errorf("the machine got %q, %v", typed, err)
	}
	if _, err := c.Open(t.Context(), "m1", "bob", false); !errors.Is(err, ErrConsoleBusy) || !strings.Contains(err.Error(), "ann") {
		t.Errorf("a second console: %v", err)
	}
	c.Close(id)
	second := ""
	for end := time.Now().Add(10 * time.Second); second == ""; { // the controller lets the first go
		if second, err = c.Open(t.Context(), "m1", "bob", false); err != nil && time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if err := c.Type(t.Context(), second, []byte("x")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("typing on a console for reading: %v", err)
	}
	if _, _, over, err := c.Read(t.Context(), id, 0); !over || !errors.Is(err, ErrNoConsole) {
		t.Errorf("the closed console: over %v, %v", over, err)
	}
}

// TestConsoleKeepsTheEnd: a machine that prints without end fills nobody's memory, and who reads too slowly goes on at what is kept.
func TestConsoleKeepsTheEnd(t *testing.T) {
	printed := make(chan struct{})
	connect := func(ctx context.Context, _ Target, in io.Reader, out io.Writer, ready func()) error {
		ready()
		for range 4 * consoleKept / 1024 {
			if _, err := out.Write([]byte(strings.Repeat("x", 1023) + "\n")); err != nil {
				return err
			}
		}
		close(printed)
		_, err := io.Copy(io.Discard, in) // until it is closed
		return errors.Join(err, errors.New("the BMC ended it"))
	}
	c := newConsoles(t, Machine{ID: "m1", BMC: &events.BMC{}}, connect)
	id, err := c.Open(t.Context(), "m1", "ann", false)
	if err != nil {
		t.Fatal(err)
	}
	<-printed
	data, next, over, err := c.Read(t.Context(), id, 0)
	if err != nil || over || len(data) != consoleAtOnce || next != 3*consoleKept+consoleAtOnce {
		t.Errorf("read %d bytes up to %d, over %v, %v", len(data), next, over, err)
	}
	c.closeIdle(time.Now().Add(2 * consoleIdle))
	if _, _, _, err := c.Read(t.Context(), id, next); !errors.Is(err, ErrNoConsole) {
		t.Errorf("a console that nobody read is open still: %v", err)
	}
}

// TestConsoleThatFails tells why.
func TestConsoleThatFails(t *testing.T) {
	refused := errors.New("the BMC says no")
	c := newConsoles(t, Machine{ID: "m1", BMC: &events.BMC{}}, func(context.Context, Target, io.Reader, io.Writer, func()) error { return refused })
	if _, err := c.Open(t.Context(), "m1", "ann", false); !errors.Is(err, refused) {
		t.Errorf("opened with %v", err)
	}
	if _, err := c.Open(t.Context(), "m2", "ann", false); err == nil {
		t.Error("a machine that is not there has a console")
	}
}
