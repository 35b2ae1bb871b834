package build

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// moduleSet is the closure of some kernel modules over their dependencies.
type moduleSet struct {
	release string            // kernel release
	root    string            // unpacked kernel package
	paths   map[string]string // module name → path below lib/modules/<release>
	infos   map[string]moduleInfo
	builtin map[string]bool
}

// moduleInfo is what is read of a module's .modinfo section.
type moduleInfo struct {
	depends []string
	aliases []string
}

// moduleName returns the kernel's name of a module from the name of its file: dashes are underscores.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}

// newModuleSet lists the modules of an unpacked kernel package.
func newModuleSet(root string) (*moduleSet, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "lib/modules/*"))
	if err != nil || len(dirs) != 1 {
		return nil, fmt.Errorf("list kernel modules: %d module directories in %s", len(dirs), root)
	}
	m := &moduleSet{release: filepath.Base(dirs[0]), root: root, paths: map[string]string{},
		infos: map[string]moduleInfo{}, builtin: map[string]bool{}}
	err = filepath.WalkDir(dirs[0], func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".ko") {
			m.paths[moduleName(p)] = strings.TrimPrefix(p, dirs[0]+"/")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(dirs[0], "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("list built-in kernel modules: %w", err)
	}
	for _, line := range strings.Fields(string(list)) {
		m.builtin[moduleName(line)] = true
	}
	return m, nil
}

// add takes a module and all that it depends on into the set. A built-in one needs nothing.
func (m *moduleSet) add(name string) error {
	name = strings.ReplaceAll(name, "-", "_")
	if _, done := m.infos[name]; done || m.builtin[name] {
		return nil
	}
	path, ok := m.paths[name]
	if !ok {
		return fmt.Errorf("add kernel module %s: kernel %s has none of that name", name, m.release)
	}
	info, err := readModinfo(m.file(path))
	if err != nil {
		return fmt.Errorf("add kernel module %s: %w", name, err)
	}
	m.infos[name] = info
	for _, d := range info.depends {
		if err := m.add(d); err != nil {
			return err
		}
	}
	return nil
}

func (m *moduleSet) file(path string) string {
	return filepath.Join(m.root, "lib/modules", m.release, path)
}

// dep returns modules.dep as depmod writes it: each module's file, then those to be loaded before it, the last first.
func (m *moduleSet) dep() []byte {
	var b bytes.Buffer
	for _, name := range sortedKeys(m.infos) {
		fmt.Fprintf(&b, "%s:", m.paths[name])
		order := m.order(name, map[string]bool{name: true})
		for i := len(order) - 1; i >= 0; i-- {
			fmt.Fprintf(&b, " %s", m.paths[order[i]])
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// order returns all dependencies of a module in the order in which they must be loaded.
func (m *moduleSet) order(name string, seen map[string]bool) []string {
	var out []string
	for _, d := range m.infos[name].depends {
		if seen[d] || m.builtin[d] {
			continue
		}
		seen[d] = true
		out = append(append(out, m.order(d, seen)...), d)
	}
	return out
}

// alias returns modules.alias: the device patterns that the set's modules serve.
func (m *moduleSet) alias() []byte {
	var b bytes.Buffer
	for _, name := range sortedKeys(m.infos) {
		for _, a := range m.infos[name].aliases {
			fmt.Fprintf(&b, "alias %s %s\n", a, name)
		}
	}
	return b.Bytes()
}

// readModinfo reads the .modinfo section of a module: NUL-separated key=value.
func readModinfo(path string) (moduleInfo, error) {
	f, err := elf.Open(path)
	if err != nil {
		return moduleInfo{}, fmt.Errorf("read module: %w", err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return moduleInfo{}, fmt.Errorf("read module %s: no .modinfo", path)
	}
	body, err := section.Data()
	if err != nil {
		return moduleInfo{}, fmt.Errorf("read module: %w", err)
	}
	return parseModinfo(body), nil
}

func parseModinfo(body []byte) moduleInfo {
	var info moduleInfo
	for _, entry := range strings.Split(string(body), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch key {
		case "depends":
			for _, d := range strings.Split(value, ",") {
				if d != "" {
					info.depends = append(info.depends, strings.ReplaceAll(d, "-", "_"))
				}
			}
		case "alias":
			info.aliases = append(info.aliases, value)
		}
	}
	return info
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
