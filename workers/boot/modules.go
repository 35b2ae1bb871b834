package boot

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

// xenModules are loaded in the control domain, in this order.
var xenModules = []string{
	"xen_evtchn", "xen_privcmd", "xen_gntdev", "xen_gntalloc", "xen_blkback", "xen_netback", "loop", "bridge",
}

// modules knows the kernel modules of the image. Not safe for concurrent use.
type modules struct {
	dir     string              // /lib/modules/<release>
	files   map[string][]string // module → its file, then its dependencies' files, the first to load last
	aliases []alias
}

// alias is a device pattern and the module that serves it.
type alias struct{ pattern, module string }

func openModules() (*modules, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("ask for the kernel release: %w", err)
	}
	dir := filepath.Join("/lib/modules", unix.ByteSliceToString(uts.Release[:]))
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("read kernel modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.alias"))
	if err != nil {
		return nil, fmt.Errorf("read kernel modules: %w", err)
	}
	return &modules{dir: dir, files: parseDep(string(dep)), aliases: parseAliases(string(list))}, nil
}

// parseDep reads modules.dep (depmod(8)): "file: dependency dependency".
func parseDep(text string) map[string][]string {
	files := map[string][]string{}
	for _, line := range strings.Split(text, "\n") {
		file, deps, ok := strings.Cut(line, ":")
		if ok {
			files[moduleName(file)] = append([]string{file}, strings.Fields(deps)...)
		}
	}
	return files
}

func parseAliases(text string) []alias {
	var out []alias
	for _, line := range strings.Split(text, "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			out = append(out, alias{pattern: f[1], module: f[2]})
		}
	}
	return out
}

func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}

// load loads a module and what it depends on; one that is loaded or built in is left alone.
func (m *modules) load(name string) error {
	if _, err := os.Stat(filepath.Join("/sys/module", name)); err == nil {
		return nil
	}
	files, ok := m.files[name]
	if !ok {
		return fmt.Errorf("load kernel module %s: not in this image", name)
	}
	for i := len(files) - 1; i >= 0; i-- {
		if err := insert(filepath.Join(m.dir, files[i])); err != nil {
			return fmt.Errorf("load kernel module %s for %s: %w", moduleName(files[i]), name, err)
		}
	}
	return nil
}

// insert gives one file to the kernel; a module that is there already is no error.
func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// match returns the modules that serve a device, by its modalias.
func (m *modules) match(modalias string) []string {
	var names []string
	for _, a := range m.aliases {
		if ok, err := path.Match(a.pattern, modalias); err == nil && ok {
			names = append(names, a.module)
		}
	}
	return names
}

// coldplug loads the drivers of the devices that are there; again while that makes new devices appear. A driver that
// cannot be loaded is logged and left: the machine may do without.
func (m *modules) coldplug(log *slog.Logger) error {
	const rounds = 4 // bus, virtio transport, device, and one to see that nothing is left
	tried := map[string]bool{}
	for range rounds {
		found, err := filepath.Glob("/sys/bus/*/devices/*/modalias")
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
				if err := m.load(name); err != nil {
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
