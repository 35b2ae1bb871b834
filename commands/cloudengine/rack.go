package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"cloudengine/e2e/rack"

	"github.com/spf13/cobra"
)

// rackFlags say what "rack up" starts, and where from.
type rackFlags struct {
	dir, data    string
	namespace    string
	image, guest string
	hosts        int
	storageNodes int
	proxies      int
	ram          mebibytes
	listen, http string
	dom0Args     string
	detach       bool
	patience     time.Duration
	networks     bool
}

func (a *app) rackCommand() *cobra.Command {
	f := rackFlags{ram: 2048}
	cmd := &cobra.Command{
		Use: "rack", Short: "A virtual rack to try everything in: QEMU machines with BMCs that netboot real Xen",
		Long: `A virtual rack: QEMU machines, each with an IPMI 2.0 controller, on networks inside a namespace of their own. The control plane runs
in there too; its bus and its HTTP port are forwarded to loopback outside, so all commands work as ever.`,
	}
	pf := cmd.PersistentFlags()
	pf.StringVar(&f.dir, "rack-dir", "bin/rack", "state and logs of the rack")
	pf.StringVar(&f.data, "data", "data", "data directory of the control plane")
	pf.StringVar(&f.namespace, "namespace", "cerack", "network namespace of the rack; racks that are up at once need different ones")
	up := &cobra.Command{
		Use: "up", Short: "Start a rack and a control plane, and run a first VM", Args: cobra.NoArgs,
		Long: `Start a rack and a control plane, and run a first VM. It needs root, for the namespace. What the log in --data knows already is used
again. It stays in the foreground until Ctrl-C, which stops everything; with --detach it returns when the VM runs.`,
		Example: "  sudo cloudengine rack up\n  sudo cloudengine rack up --detach --hosts 3",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.rackUp(cmd.Context(), f) },
	}
	fs := up.Flags()
	fs.StringVar(&f.image, "image", "bin/image", "boot image of the machines (go tool task image)")
	fs.StringVar(&f.guest, "guest", "bin/guest", "kernel and ramdisk of the first VM")
	fs.IntVar(&f.hosts, "hosts", 2, "number of machines")
	fs.IntVar(&f.storageNodes, "storage-nodes", 0, "number of storage nodes, with four disks each")
	fs.IntVar(&f.proxies, "proxies", 0, "number of proxies")
	fs.BoolVar(&f.networks, "networks", false, "give each host a card more, for networks of accounts")
	fs.Var(&f.ram, "machine-ram", "memory of each machine")
	fs.StringVar(&f.listen, "listen", "127.0.0.1:4222", "where the bus is reached outside")
	fs.StringVar(&f.http, "http", "127.0.0.1:8080", "where HTTP is reached outside")
	fs.StringVar(&f.dom0Args, "dom0-args", "", "words that the machines' control domain gets on its command line besides the usual ones (ce.shell: a shell on the serial port)")
	fs.BoolVar(&f.detach, "detach", false, "return when the VM runs, and leave all running")
	fs.DurationVar(&f.patience, "patience", 15*time.Minute, "how long to wait for machines to boot; they are emulated")
	down := &cobra.Command{
		Use: "down", Short: "Stop the rack and its control plane; the log stays", Args: cobra.NoArgs, Example: "  sudo cloudengine rack down",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rackDown(cmd.Context(), f.dir) },
	}
	status := &cobra.Command{
		Use: "status", Short: "Show the machines of the rack as the rack itself knows them", Args: cobra.NoArgs,
		Example: "  sudo cloudengine rack status\n  sudo cloudengine rack status -o json",
		RunE:    func(*cobra.Command, []string) error { return a.rackStatus(f.dir) },
	}
	console := &cobra.Command{
		Use: "serial NAME", Short: "Print the end of a machine's serial port", Args: cobra.ExactArgs(1), Example: "  sudo cloudengine rack serial host1",
		RunE: func(_ *cobra.Command, words []string) error { return a.rackSerial(f.dir, words[0]) },
	}
	cmd.AddCommand(up, down, status, console)
	return cmd
}

// openRack opens the rack that is up, or says that there is none.
func openRack(dir string) (*rack.Rack, error) {
	r, err := rack.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no rack is up in %s (cloudengine rack up starts one)", dir)
	}
	return r, err
}

func (a *app) rackDown(ctx context.Context, dir string) error {
	r, err := rack.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		a.talk("no rack is up in %s", dir)
		return nil
	}
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the rack has a network namespace: run this as root")
	}
	r.OnProgress(func(line string) { a.talk("%s", line) })
	a.talk("stop the control plane")
	return errors.Join(stopServe(ctx, dir), r.Down(ctx))
}

func (a *app) rackStatus(dir string) error {
	r, err := openRack(dir)
	if err != nil {
		return err
	}
	var rows []row
	for _, m := range r.Machines() {
		on, err := r.IsOn(m.Name)
		if err != nil {
			return err
		}
		rows = append(rows, row{
			"name": m.Name, "on": on, "mac": m.MAC, "address": m.Address.String(), "bmc": m.BMC.String(), "serial_log": m.SerialLog,
		})
	}
	return a.list([]column{
		field("NAME", "name"), field("ON", "on"), field("MAC", "mac"), field("ADDRESS", "address"), field("BMC", "bmc"), field("SERIAL-LOG", "serial_log"),
	}, rows)
}

func (a *app) rackSerial(dir, name string) error {
	r, err := openRack(dir)
	if err != nil {
		return err
	}
	lines, err := r.SerialTail(name, 60)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := io.WriteString(a.out, printable([]byte(l))+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// config says how the rack is made, and where the control plane listens inside.
func (f rackFlags) config(say func(string)) (c rack.Config, bus, web string, err error) {
	c = rack.Config{Dir: f.dir, Namespace: f.namespace, Hosts: f.hosts, MemoryMiB: int(f.ram), StorageNodes: f.storageNodes, Proxies: f.proxies, Networks: f.networks, Progress: say}
	r, err := rack.New(c)
	if err != nil {
		return c, "", "", err
	}
	inside := r.Config().ControlAddress().String()
	bus, web = net.JoinHostPort(inside, "4222"), net.JoinHostPort(inside, "8080")
	c.Forwards = []rack.Forward{{Listen: f.listen, Target: bus}, {Listen: f.http, Target: web}}
	return c, bus, web, nil
}

// need says which files are missing before anything is started.
func (f rackFlags) need() error {
	for path, how := range map[string]string{
		f.image:                             "go tool task image",
		filepath.Join(f.guest, "vmlinux"):   "go tool task image",
		filepath.Join(f.guest, "guest.img"): "go tool task image",
	} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("find %s: %w (%s builds it)", path, err, how)
		}
	}
	return nil
}
