package power

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/transport"
	"github.com/bougou/go-ipmi/pkg/types"
)

// ConnectConsole opens a machine's serial console and carries bytes both ways until ctx ends, in ends, or the BMC ends it. It calls ready
// when the console is open. It gives nil when in ended.
type ConnectConsole func(ctx context.Context, t Target, in io.Reader, out io.Writer, ready func()) error

const (
	solInstance = 1
	solPoll     = 100 * time.Millisecond
)

// Console is a ConnectConsole over IPMI 2.0 Serial over LAN (section 15). Every packet is encrypted and authenticated. A BMC holds one such
// console at a time: while another program has it, this one is refused.
func (i IPMI) Console(ctx context.Context, t Target, in io.Reader, out io.Writer, ready func()) error {
	c, g, err := i.client(t)
	if err != nil {
		return fmt.Errorf("open console by BMC %s: %w", t, err)
	}
	s := &session{c: c, guard: g, began: time.Now()}
	if err := careful(func() error { return c.Connect(ctx) }); err != nil {
		return errors.Join(fmt.Errorf("open console by BMC %s: %w", t, err), s.end(100*time.Millisecond))
	}
	err = careful(func() error { return solStream(ctx, c, in, out, ready) })
	if cerr := s.end(time.Second); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("console by BMC %s: %w", t, err)
	}
	return nil
}

func solStream(ctx context.Context, c *client.Client, in io.Reader, out io.Writer, ready func()) error {
	_, err := c.ActivatePayload(ctx, &transport.ActivatePayloadRequest{
		PayloadType: types.PayloadTypeSOL, PayloadInstance: solInstance, EnableEncryption: true, EnableAuthentication: true,
	})
	if err != nil {
		return fmt.Errorf("activate: %w (a console that is open elsewhere keeps others out)", err)
	}
	ready()
	err = c.SOLStream(ctx, in, out, &client.SOLStreamOptions{PollInterval: solPoll})
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, derr := c.DeactivatePayload(ending, &transport.DeactivatePayloadRequest{PayloadType: types.PayloadTypeSOL, PayloadInstance: solInstance})
	if err == nil && derr != nil {
		return fmt.Errorf("deactivate: %w", derr)
	}
	return err
}
