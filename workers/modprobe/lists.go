package modprobe

import (
	"path/filepath"
	"strings"
)

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

// parseAliases reads modules.alias: "alias pattern module".
func parseAliases(text string) []alias {
	var out []alias
	for _, line := range strings.Split(text, "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			out = append(out, alias{pattern: f[1], module: f[2]})
		}
	}
	return out
}

// parseBuiltin reads modules.builtin: the files that modules would have if they were not part of the kernel.
func parseBuiltin(text string) map[string]bool {
	names := map[string]bool{}
	for _, file := range strings.Fields(text) {
		names[moduleName(file)] = true
	}
	return names
}

// moduleName returns the kernel's name of a module from the name of its file.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}
