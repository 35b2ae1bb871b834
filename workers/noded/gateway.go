package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"cloudengine/workers/gateway"
	"cloudengine/workers/modprobe"
)

// notifyCall is the first argument with which keepalived calls this program after a change of role.
const notifyCall = "gateway-notify"

// addGateways makes the loop of the networks that this machine is a gateway of.
func (c *chain) addGateways() {
	self, err := os.Executable()
	if err != nil {
		c.a.log.Error("no network is connected here", "err", err)
		return
	}
	w := &gateway.Worker{Run: filepath.Join(c.a.opt.run, "gateways"), Notify: self + " " + notifyCall, Load: modprobe.Load}
	addLoop(c, "gateways", w, nil)
}

// gatewayNotify is called by keepalived, in the namespace of a gateway: its directory and the role that it now has.
func gatewayNotify(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s %q: %w", notifyCall, args, errHotplug)
	}
	return gateway.Notify(ctx, args[0], args[1])
}
