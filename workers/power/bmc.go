package power

import (
	"context"
	"fmt"
)

// Target is where a BMC is and how to get in. Password is secret.
type Target struct {
	Address  string // host:port; port 623 by default
	User     string
	Password []byte // at most 20 bytes (IPMI 2.0)
}

// String leaves the password out.
func (t Target) String() string { return t.User + "@" + t.Address }

// Format keeps the password out of %+v and the like.
func (t Target) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// Identity is what a BMC says of itself.
type Identity struct {
	GUID         string // 32 hex digits; authenticated
	Manufacturer uint32 // IANA enterprise number
	Product      uint16
	Firmware     string
}

// String is for people.
func (i Identity) String() string {
	return fmt.Sprintf("manufacturer %d, product %d, firmware %s, GUID %s", i.Manufacturer, i.Product, i.Firmware, i.GUID)
}

// BMC is one session with a BMC. It is used by one goroutine, for half a minute at most, and then closed. Every answer is authenticated.
type BMC interface {
	// Status gives events.PowerIsOn or events.PowerIsOff.
	Status(ctx context.Context) (string, error)
	// On switches the power on; no error when it is on. It does not wait until the power is there.
	On(ctx context.Context) error
	// Off takes the power away at once; no error when it is off. It does not wait until the power is gone.
	Off(ctx context.Context) error
	// SetBootPXE lets the next boot, and only that, be from the network.
	SetBootPXE(ctx context.Context) error
	Identify(ctx context.Context) (Identity, error)
	Close() error
}

// Connect opens a session with a BMC.
type Connect func(ctx context.Context, t Target) (BMC, error)
