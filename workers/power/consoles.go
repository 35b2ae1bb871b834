package power

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"cloudengine/events"
)

// Bounds of consoles.
const (
	maxConsoles    = 64               // open at a time
	consoleKept    = 256 << 10        // bytes of a console's output that are kept for who reads it; older ones are dropped
	consoleAtOnce  = 64 << 10         // bytes of one answer
	consoleIdle    = 20 * time.Second // after which a console that nobody reads is closed
	consoleOpening = 15 * time.Second // how long a BMC may take
)

// Errors of consoles.
var (
	ErrConsoleBusy  = errors.New("the machine's console is open already")
	ErrNoConsole    = errors.New("this console is not open any more")
	ErrReadOnly     = errors.New("this console was opened for reading only")
	ErrConsoleInput = errors.New("what is typed is not taken: the machine does not read it")
)

// Consoles holds the serial consoles of machines that are open, one for each machine. Its methods may be called from any goroutine; Run
// must be running.
type Consoles struct {
	cfg  ConsolesConfig
	work sync.WaitGroup

	mu      sync.Mutex
	ctx     context.Context // of Run; nil: it does not run
	open    map[string]*console
	machine map[events.MachineID]*console
}

// ConsolesConfig is what Consoles need. All but Log are required.
type ConsolesConfig struct {
	State   State
	Connect ConnectConsole
	Secret  func(name string) ([]byte, error) // the value; never logged
	Log     *slog.Logger
}

// console is one that is open.
type console struct {
	id      string
	machine events.MachineID
	user    string
	write   bool
	input   chan []byte
	cancel  context.CancelFunc
	opened  chan struct{} // closed when the BMC has opened it

	mu      sync.Mutex
	data    []byte
	from    uint64 // offset of the first byte of data
	used    time.Time
	over    bool
	err     error
	changed chan struct{} // closed at the next change
}

// NewConsoles makes a holder of consoles.
func NewConsoles(cfg ConsolesConfig) *Consoles {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Consoles{cfg: cfg, open: map[string]*console{}, machine: map[events.MachineID]*console{}}
}

// Run closes consoles that nobody reads, until ctx ends; then it closes all, waits for them, and gives nil.
func (c *Consoles) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.mu.Lock()
			c.ctx = nil
			c.mu.Unlock()
			c.work.Wait()
			return nil
		case now := <-tick.C:
			c.closeIdle(now)
		}
	}
}

func (c *Consoles) closeIdle(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.open {
		o.mu.Lock()
		idle := now.Sub(o.used) > consoleIdle
		o.mu.Unlock()
		if idle {
			c.closeLocked(o)
		}
	}
}

// Open opens a machine's console for a user and gives its id. ErrConsoleBusy: somebody has it.
func (c *Consoles) Open(ctx context.Context, machine events.MachineID, user string, write bool) (string, error) {
	m, ok := c.cfg.State.Machine(machine)
	if !ok || m.BMC == nil {
		return "", fmt.Errorf("open console of machine %s: it has no BMC", machine)
	}
	password, err := c.cfg.Secret(m.BMC.Secret)
	if err != nil {
		return "", fmt.Errorf("get secret %q: %w", m.BMC.Secret, err)
	}
	o, err := c.begin(m, user, write, Target{Address: m.BMC.Address, User: m.BMC.User, Password: password})
	if err != nil {
		return "", err
	}
	limit := time.NewTimer(consoleOpening)
	defer limit.Stop()
	select {
	case <-o.opened:
	case <-limit.C:
		err = fmt.Errorf("open console of %s: its BMC does not answer within %s", m.Name, consoleOpening)
	case <-ctx.Done():
		err = ctx.Err()
	}
	o.mu.Lock()
	if err == nil && o.over && o.err != nil {
		err = o.err
	}
	o.mu.Unlock()
	if err != nil {
		c.Close(o.id)
		return "", err
	}
	return o.id, nil
}

// begin starts the goroutine that carries a console.
func (c *Consoles) begin(m Machine, user string, write bool, t Target) (*console, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch other := c.machine[m.ID]; {
	case c.ctx == nil:
		return nil, errors.New("open console: the server is stopping")
	case other != nil:
		return nil, fmt.Errorf("%w, by %s", ErrConsoleBusy, other.user)
	case len(c.open) >= maxConsoles:
		return nil, fmt.Errorf("%d consoles are open: close some first", len(c.open))
	}
	ctx, cancel := context.WithCancel(c.ctx)
	o := &console{id: uuid.NewString(), machine: m.ID, user: user, write: write, input: make(chan []byte, 16), cancel: cancel,
		opened: make(chan struct{}), changed: make(chan struct{}), used: time.Now()}
	c.open[o.id], c.machine[m.ID] = o, o
	c.cfg.Log.Info("console opened", "machine", m.Name, "user", user, "write", write)
	c.work.Go(func() {
		defer cancel()
		var once sync.Once
		ready := func() { once.Do(func() { close(o.opened) }) }
		err := c.cfg.Connect(ctx, t, inputOf(ctx, o.input), o, ready)
		if ctx.Err() != nil {
			err = nil // it was closed
		}
		o.end(err)
		ready()
		c.forget(o)
		c.cfg.Log.Info("console closed", "machine", m.Name, "user", user, "error", err)
	})
	return o, nil
}

// forget lets the machine's console be opened again. What it printed last can be read until nobody does.
func (c *Consoles) forget(o *console) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.machine[o.machine] == o {
		delete(c.machine, o.machine)
	}
}

func (c *Consoles) find(id string) (*console, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.open[id]
	if !ok {
		return nil, ErrNoConsole
	}
	return o, nil
}

// Of tells whose console this is.
func (c *Consoles) Of(id string) (user string, machine events.MachineID, err error) {
	o, err := c.find(id)
	if err != nil {
		return "", "", err
	}
	return o.user, o.machine, nil
}

// Read gives what was printed from an offset on, at most 64 KiB, and the offset behind it; it waits until there is something, until the
// console is over, or until ctx ends. An offset before what is kept is moved to there. over: nothing will follow; why says the error.
func (c *Consoles) Read(ctx context.Context, id string, from uint64) (data []byte, next uint64, over bool, err error) {
	o, err := c.find(id)
	if err != nil {
		return nil, from, true, err
	}
	for {
		data, next, over, changed, err := o.read(from)
		if len(data) > 0 || over {
			return data, next, over && len(data) == 0, err
		}
		select {
		case <-ctx.Done():
			return nil, next, false, nil
		case <-changed:
		}
	}
}

func (o *console) read(from uint64) (data []byte, next uint64, over bool, changed chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.used = time.Now()
	from = max(from, o.from)
	if end := o.from + uint64(len(o.data)); from > end {
		from = end
	}
	part := o.data[from-o.from:]
	part = part[:min(len(part), consoleAtOnce)]
	return append([]byte(nil), part...), from + uint64(len(part)), o.over, o.changed, o.err
}

// Type sends bytes to the machine.
func (c *Consoles) Type(ctx context.Context, id string, text []byte) error {
	o, err := c.find(id)
	if err != nil {
		return err
	}
	if !o.write {
		return ErrReadOnly
	}
	limit := time.NewTimer(5 * time.Second)
	defer limit.Stop()
	select {
	case o.input <- text:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return ErrConsoleInput
	}
}

// Close closes a console. It may be closed already.
func (c *Consoles) Close(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.open[id]; ok {
		c.closeLocked(o)
	}
}

func (c *Consoles) closeLocked(o *console) {
	o.cancel()
	delete(c.open, o.id)
}

// Write keeps what the machine prints.
func (o *console) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.data = append(o.data, p...)
	if more := len(o.data) - consoleKept; more > 0 {
		o.data = append([]byte(nil), o.data[more:]...)
		o.from += uint64(more)
	}
	o.wake()
	return len(p), nil
}

func (o *console) end(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over, o.err = true, err
	o.wake()
}

func (o *console) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// inputOf reads what is typed. It ends with ctx.
func inputOf(ctx context.Context, typed <-chan []byte) io.Reader {
	return &inputReader{ctx: ctx, typed: typed}
}

type inputReader struct {
	ctx   context.Context // of the console, which ends with it
	typed <-chan []byte
	left  []byte
}

func (r *inputReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		select {
		case <-r.ctx.Done():
			return 0, io.EOF
		case r.left = <-r.typed:
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
