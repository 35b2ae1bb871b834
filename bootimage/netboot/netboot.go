// Package netboot boots machines over the network: DHCPv4 and TFTP for their ROMs, HTTP for iPXE and for the agent.
//
// It promises: it answers from its own data directory alone, so machines boot while the log, the bus and the database
// are down; each served initramfs holds a fresh one-time token whose SHA-256 is on disk before the first byte is sent,
// and is reported (OnServed) again and again until the report is taken; the token itself is neither stored nor logged;
// a machine that was not made known gets no address and no image, unless it is to be held; whatever a machine sends is treated as hostile:
// bounded, and answered with data that its MAC and address entitle it to.
//
// It does not decide anything: which machines there are and what they boot comes in with SetMachines. It is no DHCP
// server for guests, and no relay is answered.
package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Arguments used where Options has none. A Xen that crashes restarts the machine (no "noreboot"): it then boots anew
// from here, so the control plane learns from the enrolment of a new boot that the old one ended, and no crash leaves
// a machine that is neither dead nor alive. The reason is in the serial log.
const (
	DefaultXenArgs   = "console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M sched=credit"
	DefaultLinuxArgs = "console=ttyS0,115200 quiet rdinit=/init net.ifnames=0 random.trust_cpu=on panic=3"
	DefaultDom0Args  = "console=hvc0 quiet rdinit=/init net.ifnames=0 random.trust_cpu=on panic=3"
)

// Options configure a Service. DataDir and HTTP are needed; ImageDir, or nothing can boot.
type Options struct {
	DataDir string // machines.json and served/; made with mode 0700

	// Interface is where DHCP and TFTP are served; "" switches both off.
	Interface string
	// ServerAddress is our IPv4 address on the boot network and Network that network. Default: the first address of
	// Interface; without one, loopback.
	ServerAddress netip.Addr
	Network       netip.Prefix
	// PoolFirst is the first address given to machines that have none of their own, upwards to the end of Network.
	// Default: the eleventh address of Network.
	PoolFirst netip.Addr

	HTTP string   // base URL of Handler as machines reach it, e.g. http://10.77.0.1:8080
	Bus  []string // told to the agent in boot.json
	CA   string   // certificates of those who may sign the bus's own, as PEM; also told to the agent. Empty: the bus is not encrypted

	// ImageDir is an image (a directory with manifest.json), or a directory of images named by version with a link
	// "current" to the one that machines boot if they name none. It is read at each request.
	ImageDir string
	BlobDir  string // files named by the SHA-256 of their content; "" serves none
	XenArgs  string // default DefaultXenArgs
	Dom0Args string // default DefaultDom0Args

	LinuxArgs string // of machines that run no domains; default DefaultLinuxArgs

	// TFTPFiles are the boot programs for plain PXE ROMs, by the name that they are asked for. Default: undionly.kpxe
	// (BIOS) and ipxe.efi (UEFI) of Debian's package ipxe.
	TFTPFiles map[string]string

	// OnServed reports that a machine was given its boot files. It is called by one goroutine, in order, again and
	// again (1 to 30 s apart) until it returns nil; it must return nil for a report that was refused for good.
	OnServed func(context.Context, BootServed) error
	// OnDiscovered tells of a MAC that asked and is unknown, at most once a minute each, and of what a held machine says of itself, once
	// in ten minutes. Called by the DHCP goroutine and by those of HTTP: it must not block. May be nil.
	OnDiscovered func(Discovered)

	// AnySource serves /boot also to a client whose address is not the machine's. For tests and for networks where the
	// HTTP server sits behind a proxy: it gives up the proof that the asker has the machine's address.
	AnySource bool

	Log *slog.Logger     // default: discard
	Now func() time.Time // default: time.Now
}

// BootServed says that a machine was given an image with a token inside.
type BootServed struct {
	Machine     string    `json:"machine"`
	MAC         string    `json:"mac"`
	TokenSHA256 string    `json:"token_sha256"` // hexadecimal, of the token's text in boot.json
	Image       string    `json:"image"`
	Time        time.Time `json:"time"`
}

// Discovered says that an unknown machine asked for an address.
type Discovered struct {
	MAC   string
	Class string // its vendor class, e.g. PXEClient:Arch:00000:UNDI:002001; at most 64 printable bytes
	Time  time.Time

	Serial, UUID, Manufacturer, Product string // what its firmware says, once it is held; each at most 64 printable bytes
}

// Service is the netboot service of one boot network. Its methods may be called from any goroutine.
type Service struct {
	opt   Options
	files map[string][]byte // for TFTP

	mu       sync.Mutex
	machines registry
	limits   tokenLimits

	queue *servedQueue
	known *discoveries
	facts *discoveries // of held machines that said what they are

	keeping sync.Mutex           // held by KeepImages
	kept    map[string]time.Time // when every byte of a copy was last read, by version
}

// New checks the options and reads the cache of the last run. It opens no socket.
func New(opt Options) (*Service, error) {
	if err := opt.complete(); err != nil {
		return nil, fmt.Errorf("configure netboot: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(opt.DataDir, servedDir), 0o700); err != nil {
		return nil, fmt.Errorf("make netboot data directory: %w", err)
	}
	s := &Service{opt: opt, limits: tokenLimits{}, known: newDiscoveries(), facts: newDiscoveries(), kept: map[string]time.Time{}}
	var err error
	if s.machines, err = readRegistry(filepath.Join(opt.DataDir, registryFile)); err != nil {
		return nil, err
	}
	if s.queue, err = openQueue(filepath.Join(opt.DataDir, servedDir)); err != nil {
		return nil, err
	}
	if opt.Interface != "" {
		if s.files, err = readTFTPFiles(opt.TFTPFiles); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (o *Options) complete() error {
	if o.DataDir == "" {
		return errors.New("no data directory")
	}
	if !o.ServerAddress.IsValid() {
		if err := o.takeAddress(); err != nil {
			return err
		}
	}
	if !o.ServerAddress.Is4() || !o.Network.IsValid() || !o.Network.Contains(o.ServerAddress) {
		return fmt.Errorf("server address %s in network %s: want an IPv4 address inside it", o.ServerAddress, o.Network)
	}
	o.Network = o.Network.Masked()
	if !o.PoolFirst.IsValid() {
		o.PoolFirst = o.Network.Addr()
		for range 11 {
			o.PoolFirst = o.PoolFirst.Next()
		}
	}
	if !o.Network.Contains(o.PoolFirst) {
		return fmt.Errorf("first address %s is not in network %s", o.PoolFirst, o.Network)
	}
	if err := o.completeBoot(); err != nil {
		return err
	}
	if o.TFTPFiles == nil {
		o.TFTPFiles = map[string]string{biosProgram: "/usr/lib/ipxe/undionly.kpxe", efiProgram: "/usr/lib/ipxe/ipxe.efi"}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

func (o *Options) completeBoot() error {
	base, err := url.Parse(o.HTTP)
	if err != nil || base.Scheme != "http" || base.Host == "" {
		return fmt.Errorf("base URL %q: want http://host:port", o.HTTP)
	}
	o.HTTP = strings.TrimSuffix(o.HTTP, "/")
	if o.XenArgs == "" {
		o.XenArgs = DefaultXenArgs
	}
	if o.LinuxArgs == "" {
		o.LinuxArgs = DefaultLinuxArgs
	}
	if o.Dom0Args == "" {
		o.Dom0Args = DefaultDom0Args
	}
	for _, args := range []string{o.XenArgs, o.Dom0Args, o.LinuxArgs} {
		if strings.ContainsAny(args, "\r\n") {
			return errors.New("boot arguments with a line break")
		}
	}
	return nil
}

// takeAddress fills in the address and network of the interface.
func (o *Options) takeAddress() error {
	if o.Interface == "" {
		o.ServerAddress, o.Network = netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.MustParsePrefix("127.0.0.0/8")
		return nil
	}
	ifi, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", o.Interface, err)
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", o.Interface, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			o.ServerAddress, o.Network = p.Addr(), p.Masked()
			return nil
		}
	}
	return fmt.Errorf("interface %s has no IPv4 address", o.Interface)
}

// Run serves DHCP and TFTP (if there is an interface) and delivers reports until ctx ends or a socket fails; it returns
// nil in the first case. HTTP is served by whoever mounts Handler. Call it once.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.deliver(ctx) })
	if s.opt.Interface != "" {
		g.Go(func() error { return s.serveDHCP(ctx) })
		g.Go(func() error { return s.serveTFTP(ctx) })
		g.Go(func() error { return s.serveRouter(ctx) })
	}
	err := g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("serve netboot: %w", err)
	}
	return nil
}

// SetMachines replaces the known machines. They are in the cache on disk when it returns nil; on an error nothing has
// changed. Cheap when nothing differs. The order matters: addresses that machines do not bring are given in it.
func (s *Service) SetMachines(machines []Machine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.machines.with(machines, s.opt.addresses())
	if err != nil {
		return fmt.Errorf("set netboot machines: %w", err)
	}
	if next.equal(s.machines) {
		return nil
	}
	if err := next.write(filepath.Join(s.opt.DataDir, registryFile)); err != nil {
		return fmt.Errorf("set netboot machines: %w", err)
	}
	s.machines = next
	return nil
}

// Address returns the address that a MAC of a known machine has.
func (s *Service) Address(mac string) (netip.Addr, bool) {
	_, addr, ok := s.lookup(mac)
	return addr, ok
}

func (s *Service) lookup(mac string) (Machine, netip.Addr, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machines.lookup(mac)
}
