package power

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"

	"cloudengine/events"
)

// IPMI opens sessions over IPMI 2.0 (RMCP+). The zero value is ready.
type IPMI struct {
	// Suites are the cipher suites to try, best first: 17 (HMAC-SHA256, AES) and 3 (HMAC-SHA1, AES). Empty: both. Others, which
	// protect less, are refused.
	Suites []uint8
	// Timeout is how long one packet is waited for, before it is sent again. Default 1 s.
	Timeout time.Duration
	// Retries is how often a packet is sent again. Default 3; negative: never.
	Retries int
}

// longestSession stays below the library's keep-alive, which nobody waits for.
const longestSession = 25 * time.Second

// Connect logs in with the privilege level operator, which is the least that may switch power. ctx bounds the login only.
func (i IPMI) Connect(ctx context.Context, t Target) (BMC, error) {
	c, g, err := i.client(t)
	if err != nil {
		return nil, fmt.Errorf("connect to BMC %s: %w", t, err)
	}
	s := &session{c: c, guard: g, began: time.Now()}
	if err := careful(func() error { return c.Connect(ctx) }); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to BMC %s: %w", t, err), s.end(100*time.Millisecond))
	}
	return s, nil
}

func (i IPMI) client(t Target) (*client.Client, *guard, error) {
	host, port, err := splitAddress(t.Address)
	if err != nil {
		return nil, nil, err
	}
	if len(t.Password) > 20 || len(t.User) > 16 {
		return nil, nil, errors.New("IPMI 2.0 allows 16 bytes of user and 20 of password")
	}
	suites, err := i.suites()
	if err != nil {
		return nil, nil, err
	}
	c, err := client.NewClient(host, port, t.User, string(t.Password))
	if err != nil {
		return nil, nil, err
	}
	g := &guard{user: t.User, password: string(t.Password)}
	retries := 3
	if i.Retries != 0 {
		retries = max(i.Retries, 0)
	}
	timeout := time.Second
	if i.Timeout > 0 {
		timeout = i.Timeout
	}
	c.WithCipherSuiteID(suites...).WithMaxPrivilegeLevel(types.PrivilegeLevelOperator).WithTimeout(timeout).WithRetry(retries).
		WithUDPProxy(guardedDialer{g})
	return c, g, nil
}

func (i IPMI) suites() ([]types.CipherSuiteID, error) {
	if len(i.Suites) == 0 {
		return []types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3}, nil
	}
	var out []types.CipherSuiteID
	for _, s := range i.Suites {
		if s != 3 && s != 17 {
			return nil, fmt.Errorf("cipher suite %d: only 3 and 17 are allowed", s)
		}
		out = append(out, types.CipherSuiteID(s))
	}
	return out, nil
}

func splitAddress(a string) (string, int, error) {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return a, 623, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("address %q: want host:port", a)
	}
	return host, int(n), nil
}

// guardedDialer puts the guard before the library's socket.
type guardedDialer struct{ g *guard }

// Dial serves golang.org/x/net/proxy.Dialer.
func (d guardedDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	d.g.Conn = c
	return d.g, nil
}

// careful turns the library's panics into errors.
func careful(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the IPMI library gave up: %v", p)
		}
	}()
	return f()
}

type session struct {
	c     *client.Client
	guard *guard
	began time.Time
	ended bool
}

var errEnded = errors.New("the session is closed")

// do runs one command within the session's time.
func (s *session) do(ctx context.Context, what string, f func(context.Context) error) error {
	if s.ended { // the library would dial again
		return fmt.Errorf("%s: %w", what, errEnded)
	}
	ctx, cancel := context.WithDeadline(ctx, s.began.Add(longestSession))
	defer cancel()
	if err := careful(func() error { return f(ctx) }); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Status reads the chassis status (section 28.2).
func (s *session) Status(ctx context.Context) (string, error) {
	state := events.PowerIsUnknown
	err := s.do(ctx, "read power state", func(ctx context.Context) error {
		r, err := s.c.GetChassisStatus(ctx)
		if err != nil {
			return err
		}
		state = events.PowerIsOff
		if r.PowerIsOn {
			state = events.PowerIsOn
		}
		return nil
	})
	return state, err
}

func (s *session) On(ctx context.Context) error {
	return s.control(ctx, "switch power on", chassis.ChassisControlPowerUp)
}

func (s *session) Off(ctx context.Context) error {
	return s.control(ctx, "switch power off", chassis.ChassisControlPowerDown)
}

func (s *session) control(ctx context.Context, what string, c chassis.ChassisControl) error {
	return s.do(ctx, what, func(ctx context.Context) error {
		_, err := s.c.ChassisControl(ctx, c)
		return err
	})
}

// SetBootPXE sets the boot flags for one boot (section 28.13).
func (s *session) SetBootPXE(ctx context.Context) error {
	return s.do(ctx, "let the next boot be from the network", func(ctx context.Context) error {
		return s.c.SetBootDevice(ctx, types.BootDeviceSelectorForcePXE, types.BIOSBootTypeLegacy, false)
	})
}

func (s *session) Identify(ctx context.Context) (Identity, error) {
	id := Identity{GUID: s.guard.GUID()}
	err := s.do(ctx, "read device id", func(ctx context.Context) error {
		r, err := s.c.GetDeviceID(ctx)
		if err != nil {
			return err
		}
		id.Manufacturer, id.Product = r.ManufacturerID, r.ProductID
		id.Firmware = fmt.Sprintf("%d.%02x", r.MajorFirmwareRevision, r.MinorFirmwareRevision)
		return nil
	})
	return id, err
}

// Close ends the session. A BMC that does not answer ends it by itself.
func (s *session) Close() error {
	if err := s.end(time.Second); err != nil {
		return fmt.Errorf("close session with BMC: %w", err)
	}
	return nil
}

func (s *session) end(limit time.Duration) error {
	if s.ended {
		return nil
	}
	s.ended = true
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := careful(func() error { return s.c.Close(ctx) })
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
