// Command lint checks the tree's form: gofmt, go vet and staticcheck, and vet again with the tag of the lab where it says more. It prints what is wrong and changes nothing.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lint:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	files, err := exec.CommandContext(ctx, "git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go").Output()
	if err != nil {
		return fmt.Errorf("list Go files: %w", err)
	}
	unformatted, err := exec.CommandContext(ctx, "gofmt", append([]string{"-l"}, existing(strings.Fields(string(files)))...)...).Output()
	if err != nil {
		return fmt.Errorf("run gofmt: %w", err)
	}
	found := []string{}
	if len(bytes.TrimSpace(unformatted)) > 0 {
		found = append(found, "not formatted (run gofmt -w):\n"+string(unformatted))
	}
	checks := [][]string{{"vet", "./..."}, {"tool", "staticcheck", "./..."}}
	if lab := labPackages(existing(strings.Fields(string(files)))); len(lab) > 0 {
		checks = append(checks, append([]string{"vet", "-tags", "lab"}, lab...))
	}
	for _, args := range checks {
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			found = append(found, "go "+strings.Join(args, " ")+":\n"+string(out))
		}
	}
	if len(found) > 0 {
		return errors.New(strings.Join(found, "\n"))
	}
	return nil
}

// existing leaves out what is deleted and not yet committed.
func existing(files []string) []string {
	out := files[:0]
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			out = append(out, f)
		}
	}
	return out
}

// labPackages gives the packages that have tests for the lab, each once: without the tag nothing compiles those.
func labPackages(files []string) []string {
	var dirs []string
	for _, f := range files {
		if dir := "./" + path.Dir(f); strings.HasSuffix(f, "_lab_test.go") && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
