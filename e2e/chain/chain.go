// Package chain makes the storage chain on a virtual rack, from blank disks in two storage nodes to a VM whose guest writes to a volume, and
// reads what that guest says of its disk. The scenarios show what it withstands; bench measures how long it stalls. It does all with the
// users' own command line, and reads by the bus.
package chain

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/e2e/rack"
	"cloudengine/events"
)

// What is made, in this order.
const (
	Fabric = "san"
	Pool   = "gold"
	Array  = "gold1"
	Volume = "data1"
	VM     = "disky"

	subnet = "10.77.2.0/24"
	mtu    = "4200" // RDMA over Ethernet uses its largest packets
)

// Chain is a rack with its control plane, and how both are reached.
type Chain struct {
	Rack *rack.Rack
	Bus  *client.Client
	Run  func(ctx context.Context, args ...string) (out string, err error) // the command line; an error has what it complained about
	Say  func(format string, args ...any)                                  // is told what was waited for
	Sets int                                                               // sets of disks that the array has
}

// Of gives the names of the rack's machines with a role.
func (c *Chain) Of(role string) (names []string) {
	for _, m := range c.Rack.Machines() {
		if m.Role == role {
			names = append(names, m.Name)
		}
	}
	return names
}

// Join makes the storage network over a transport, attaches every machine's second card to it, and waits until the nodes' disks are known.
func (c *Chain) Join(ctx context.Context, transport string) error {
	nodes, proxies := c.Of(rack.RoleStorageNode), c.Of(rack.RoleProxy)
	if len(nodes) != 2 || len(proxies) != 2 {
		return fmt.Errorf("the rack has storage nodes %v and proxies %v, want two of each", nodes, proxies)
	}
	if _, err := c.Run(ctx, "fabric", "create", Fabric, "--transport", transport, "--subnet", subnet, "--mtu", mtu); err != nil {
		return err
	}
	for _, m := range c.Rack.Machines() {
		err := c.Until(ctx, 8*time.Minute, m.Name+" is up", func(ctx context.Context) (bool, string, error) {
			r, err := c.Row(ctx, events.KindMachine, m.Name)
			return Text(r, "state") == "up", Text(r, "state"), err
		})
		if err != nil {
			return err
		}
		if _, err := c.Run(ctx, "fabric", "join", Fabric, m.Name, "--mac", m.SANMAC); err != nil {
			return err
		}
	}
	want := len(nodes) * c.Rack.Config().Disks
	return c.Until(ctx, 3*time.Minute, fmt.Sprintf("%d disks are known and free", want), func(ctx context.Context) (bool, string, error) {
		all, err := c.Rows(ctx, events.KindDisk)
		found := 0
		for _, d := range all {
			if d["gone"] != true && Text(d, "array") == "" && Text(d, "wiping") == "" {
				found++
			}
		}
		return found == want, fmt.Sprint(all), err
	})
}

// Make makes a pool and an array over both nodes, and waits until a proxy has made it and serves it whole.
func (c *Chain) Make(ctx context.Context) error {
	for _, args := range [][]string{
		{"pool", "create", Pool, "--fabric", Fabric, "--copies", "2"},
		{"array", "create", Array, "--pool", Pool, "--sets", fmt.Sprint(c.Sets)},
	} {
		if _, err := c.Run(ctx, args...); err != nil {
			return err
		}
	}
	_, err := c.Whole(ctx, "")
	return err
}

// Whole waits until the array is active with all its legs, on a proxy (empty: any), and says on which.
func (c *Chain) Whole(ctx context.Context, on string) (owner string, err error) {
	err = c.Until(ctx, 8*time.Minute, "the array is active and whole", func(ctx context.Context) (bool, string, error) {
		a, err := c.Row(ctx, events.KindArray, Array)
		owner = Text(a, "owner_name")
		return Text(a, "state") == events.ArrayActive && a["made"] == true && Text(a, "degraded") == "0" && (on == "" || on == owner), fmt.Sprint(a), err
	})
	return owner, err
}

// TakenOver waits until the array is active on another proxy than one.
func (c *Chain) TakenOver(ctx context.Context, from string) error {
	return c.Until(ctx, 8*time.Minute, "the other proxy has the array", func(ctx context.Context) (bool, string, error) {
		a, err := c.Row(ctx, events.KindArray, Array)
		return Text(a, "state") == events.ArrayActive && Text(a, "owner_name") != from, fmt.Sprint(a), err
	})
}

// Degraded waits until the array is known to lack the legs of a node, and serves.
func (c *Chain) Degraded(ctx context.Context) error {
	return c.Until(ctx, 3*time.Minute, "the array is degraded and active", func(ctx context.Context) (bool, string, error) {
		a, err := c.Row(ctx, events.KindArray, Array)
		return Text(a, "state") == events.ArrayActive && Text(a, "degraded") == fmt.Sprint(c.Sets), fmt.Sprint(a), err
	})
}

// Attach makes a volume, and a VM of the type that writes to it. The VM is not started.
func (c *Chain) Attach(ctx context.Context) error {
	for _, args := range [][]string{
		{"volume", "create", Volume, "--account", "demo", "--pool", Pool, "--size", "64MiB", "--wait", "--timeout", "5m"},
		{"vm", "create", VM, "--account", "demo", "--template", "guest", "--type", events.TypePV, "--ram", "128MiB", "--vcpus", "1",
			"--cmdline", "console=hvc0 ce.disk=" + events.SlotPrimary},
		{"volume", "attach", Volume, "--vm", VM},
	} {
		if _, err := c.Run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Until asks again and again, at least every 200 ms, until what is asked for holds, fails, or is too late. The error has what was said last.
func (c *Chain) Until(ctx context.Context, limit time.Duration, what string, holds func(context.Context) (ok bool, said string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, said, err := holds(ctx)
		if err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
		if ok {
			c.Say("%s: after %.1f s", what, time.Since(began).Seconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait %s until %s: %w; last: %s", limit, what, ctx.Err(), said)
		case <-tick.C:
		}
	}
}

// Row reads one object by the bus.
func (c *Chain) Row(ctx context.Context, kind events.Kind, name string) (row map[string]any, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	a, err := c.Bus.Read(ctx, kind, "get", events.ReadRequest{ID: name})
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind, name, err)
	}
	if len(a.Items) != 1 {
		return nil, fmt.Errorf("read %s %s: %d items", kind, name, len(a.Items))
	}
	if err := json.Unmarshal(a.Items[0], &row); err != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind, name, err)
	}
	return row, nil
}

// Rows reads all objects of a kind by the bus.
func (c *Chain) Rows(ctx context.Context, kind events.Kind) ([]map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	items, _, err := c.Bus.List(ctx, kind, events.ReadRequest{})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", kind, err)
	}
	all := make([]map[string]any, len(items))
	for i, raw := range items {
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
	}
	return all, nil
}

// Text gives a column of a row; empty if it has none.
func Text(row map[string]any, column string) string {
	if row[column] == nil {
		return ""
	}
	return fmt.Sprint(row[column])
}
