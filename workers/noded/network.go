package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/workers/host"
	"cloudengine/workers/modprobe"
	"cloudengine/workers/network"
)

// networkInterval is the longest time between two looks at networks. Documents are followed at once; what somebody else has changed waits.
const networkInterval = 10 * time.Second

// addNetworks makes the loop of the networks that this host's guests are on.
func (c *chain) addNetworks() {
	store := c.a.edges.store
	w := &network.Worker{
		Domains: func(ctx context.Context) ([]network.Vif, error) { return vifs(ctx, store) }, Load: modprobe.Load,
	}
	servers := newNetServers(w.Standing, c.a.log.With("part", "networks"))
	w.Changed = servers.wake
	c.others = append(c.others, servers.run)
	addLoopEvery(c, "networks", networkInterval, 0, w, nil)
	c.a.worker.NICs = w
	c.networks = func(ctx context.Context) (*events.NetworksReport, error) {
		r, err := w.Inspect(ctx, c.a.wishes.All())
		return &r, err
	}
}

// vifs lists the vifs of all domains, as their backends' nodes have them. What is not of our form is left out: it is not plugged in.
func vifs(ctx context.Context, store host.Store) ([]network.Vif, error) {
	domids, err := store.Children(ctx, host.VifRoot)
	if err != nil {
		return nil, fmt.Errorf("list domains with NICs: %w", err)
	}
	var out []network.Vif
	for _, domid := range domids {
		ids, err := store.Children(ctx, host.VifRoot+"/"+domid)
		if err != nil {
			return nil, fmt.Errorf("list NICs of domain %s: %w", domid, err)
		}
		for _, id := range ids {
			v, err := vifAt(ctx, store, host.VifRoot+"/"+domid+"/"+id)
			if err != nil && !errors.Is(err, host.ErrNoNode) && !errors.Is(err, errNotNetwork) { // it is gone, or another's
				return nil, err
			}
			if err == nil {
				out = append(out, v)
			}
		}
	}
	return out, nil
}

var errNotNetwork = errors.New("it is not the vif of a network")

// vifAt reads the nodes of a vif's backend. A guest cannot write them.
func vifAt(ctx context.Context, store host.Store, dir string) (network.Vif, error) {
	devid, err1 := strconv.Atoi(path.Base(dir))
	domid, err2 := strconv.Atoi(path.Base(path.Dir(dir)))
	if err := errors.Join(err1, err2); err != nil {
		return network.Vif{}, fmt.Errorf("%s: %w: %w", dir, err, errNotNetwork)
	}
	v := network.Vif{Device: network.Device(domid, devid)}
	var bridge, addresses string
	for node, to := range map[string]*string{"mac": &v.MAC, "bridge": &bridge, "ip": &addresses} {
		text, err := store.Read(ctx, dir+"/"+node)
		if err != nil {
			return network.Vif{}, fmt.Errorf("read %s of %s: %w", node, v.Device, err)
		}
		*to = text
	}
	vni, ok := network.VNIOf(bridge)
	if !ok {
		return network.Vif{}, fmt.Errorf("%s is on %q: %w", v.Device, bridge, errNotNetwork)
	}
	v.VNI, v.Addresses = vni, strings.Fields(addresses)
	return v, nil
}

// plugger joins vifs to their networks. network.Kernel is the real one.
type plugger interface {
	Plug(v network.Vif, mtu int) error
	MTU(vni int) (int, error)
}

// plugVif joins the vif of a domain to its network, behind its rules. Its frontend learns the network's MTU from xenstore.
func plugVif(ctx context.Context, store host.Store, k plugger, dir string) error {
	v, err := vifAt(ctx, store, dir)
	if err != nil {
		return fmt.Errorf("hotplug vif: %w", err)
	}
	mtu, err := k.MTU(v.VNI)
	if err != nil {
		return fmt.Errorf("hotplug vif: %w", err)
	}
	if err := k.Plug(v, mtu); err != nil {
		return fmt.Errorf("hotplug vif: %w", err)
	}
	domid := path.Base(path.Dir(dir))
	for _, n := range [][2]string{{"/local/domain/" + domid + "/device/vif/" + path.Base(dir) + "/mtu", strconv.Itoa(mtu)}, {dir + "/hotplug-status", "connected"}} {
		if err := store.Write(ctx, n[0], n[1]); err != nil {
			return fmt.Errorf("hotplug vif %s: %w", v.Device, err)
		}
	}
	return nil
}
