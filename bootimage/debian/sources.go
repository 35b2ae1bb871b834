package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// suite is the Debian release that the image is of.
const suite = "bookworm"

// sources gives the lines of sources.list(5) by which this machine's apt gets that release, its updates and security updates.
func sources(ctx context.Context) ([]string, error) {
	out, err := command(ctx, "apt-get", "indextargets", "--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)")
	if err != nil {
		return nil, err
	}
	return parseTargets(string(out))
}

// parseTargets reads what apt says of itself: one line for each list of packages.
func parseTargets(text string) ([]string, error) {
	var lines []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] != "Packages" || f[3] != "main" {
			continue
		}
		if f[2] == suite || f[2] == suite+"-updates" || f[2] == suite+"-security" {
			lines = append(lines, "deb "+f[1]+" "+f[2]+" main")
		}
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, " "+suite+" main") }) {
		return nil, fmt.Errorf("find Debian %s in this machine's apt sources: there is no such line", suite)
	}
	return lines, nil
}
