// Package modprobe loads kernel modules of the boot image: by name, or for the devices that are there.
//
// It promises that a module's dependencies come first, that one which is loaded or built in is no error, and that it may
// be called from several goroutines and processes at once: the kernel itself lets only one of them load a module. It
// reads the lists that the image's build wrote (modules.dep, modules.alias, modules.builtin; depmod(8)) and starts no
// program. It never unloads anything, and it does not follow what modules ask for by other means than dependencies: the
// image has no /sbin/modprobe that the kernel could call, so whoever needs such a module names it.
package modprobe

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Modules knows the kernel modules of the image. Safe for concurrent use: it does not change after Open.
type Modules struct {
	root    string              // "/", or where a test has its files
	dir     string              // <root>/lib/modules/<release>
	files   map[string][]string // module → its file, then its dependencies' files, the first to load last
	builtin map[string]bool
	aliases []alias
	insert  func(file, params string) error
}

// alias is a device pattern and the module that serves it.
type alias struct{ pattern, module string }

// Open reads the lists of the running kernel's modules.
func Open() (*Modules, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("ask for the kernel release: %w", err)
	}
	return open("/", unix.ByteSliceToString(uts.Release[:]), insert)
}

func open(root, release string, insert func(file, params string) error) (*Modules, error) {
	m := &Modules{root: root, dir: filepath.Join(root, "lib/modules", release), insert: insert}
	dep, err := os.ReadFile(filepath.Join(m.dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("read kernel modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(m.dir, "modules.alias"))
	if err != nil {
		return nil, fmt.Errorf("read kernel modules: %w", err)
	}
	builtin, err := os.ReadFile(filepath.Join(m.dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("read built-in kernel modules: %w", err)
	}
	m.files, m.aliases, m.builtin = parseDep(string(dep)), parseAliases(string(list)), parseBuiltin(string(builtin))
	return m, nil
}

// Load loads a module of the running kernel and what it depends on; dashes in its name count as underscores. Parameters
// ("name=value") are given to the module itself. They have no effect if it is loaded already, which is no error.
func Load(name string, params ...string) error {
	m, err := Open()
	if err != nil {
		return fmt.Errorf("load kernel module %s: %w", name, err)
	}
	return m.Load(name, params...)
}

// Load is the function of the same name, without reading the lists anew.
func (m *Modules) Load(name string, params ...string) error {
	name = strings.ReplaceAll(name, "-", "_")
	if m.builtin[name] || m.isLive(name) {
		return nil
	}
	files, ok := m.files[name]
	if !ok {
		return fmt.Errorf("load kernel module %s: not in this image", name)
	}
	for i := len(files) - 1; i >= 0; i-- {
		own := ""
		if i == 0 {
			own = strings.Join(params, " ")
		}
		if err := m.insert(filepath.Join(m.dir, files[i]), own); err != nil {
			return fmt.Errorf("load kernel module %s for %s: %w", moduleName(files[i]), name, err)
		}
	}
	return nil
}

// isLive says whether a module is there and has started. One that another process is just loading is not: inserting it
// again waits for that to end. One that is built in has no state.
func (m *Modules) isLive(name string) bool {
	dir := filepath.Join(m.root, "sys/module", name)
	state, err := os.ReadFile(filepath.Join(dir, "initstate"))
	if err == nil {
		return strings.TrimSpace(string(state)) == "live"
	}
	_, err = os.Stat(dir)
	return err == nil
}

// insert gives one file to the kernel (finit_module(2)); a module that is there already is no error.
func insert(file, params string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), params, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// match returns the modules that serve a device, by its modalias.
func (m *Modules) match(modalias string) []string {
	var names []string
	for _, a := range m.aliases {
		if ok, err := path.Match(a.pattern, modalias); err == nil && ok {
			names = append(names, a.module)
		}
	}
	return names
}

// Coldplug loads the drivers of the devices that are there; again while that makes new devices appear. A driver that
// cannot be loaded is logged and left: the machine may do without.
func (m *Modules) Coldplug(log *slog.Logger) error {
	const rounds = 4 // bus, virtio transport, device, and one to see that nothing is left
	tried := map[string]bool{}
	for range rounds {
		found, err := filepath.Glob(filepath.Join(m.root, "sys/bus/*/devices/*/modalias"))
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		loaded := 0
		for _, file := range found {
			body, err := os.ReadFile(file)
			if err != nil {
				continue // the device has gone
			}
			for _, name := range m.match(strings.TrimSpace(string(body))) {
				if tried[name] {
					continue
				}
				tried[name] = true
				loaded++
				if err := m.Load(name); err != nil {
					log.Warn("driver not loaded", "device", filepath.Dir(file), "err", err)
				}
			}
		}
		if loaded == 0 {
			return nil
		}
	}
	return nil
}
