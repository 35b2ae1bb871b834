package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const referencePath = "COMMANDS.md"

// TestReferenceIsCurrent compares COMMANDS.md with what the program would say; CE_WRITE=1 writes it (go tool task schemas).
func TestReferenceIsCurrent(t *testing.T) {
	want := reference((&app{}).rootCommand())
	if os.Getenv("CE_WRITE") != "" {
		if err := os.WriteFile(referencePath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(referencePath)
	if err != nil || string(have) != string(want) {
		t.Fatalf("COMMANDS.md is not what the commands are (%v): run \"go tool task schemas\" and commit what it writes", err)
	}
}

// TestEveryCommandIsRun holds that each command has an example, and that a script here or a scenario on the rack runs it.
func TestEveryCommandIsRun(t *testing.T) {
	run := whatIsRun(t)
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.IsAvailableCommand() || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.HasAvailableSubCommands() {
			for _, sub := range c.Commands() {
				walk(sub)
			}
			return
		}
		words := strings.TrimPrefix(c.CommandPath(), "cloudengine ")
		if c.Example == "" {
			t.Errorf("%s has no example", words)
		}
		if !strings.Contains(run, " "+words+" ") {
			t.Errorf("no script and no scenario runs \"cloudengine %s\": add it to one of testdata/script", words)
		}
	}
	for _, c := range (&app{}).rootCommand().Commands() {
		walk(c)
	}
}

var stringLiteral = regexp.MustCompile(`"([^"\n]*)"`)

// whatIsRun gives the words of all command lines of the scripts and of the scenarios, with one blank between and around them.
func whatIsRun(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range scripts {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(raw), "\n") {
			fields := strings.Fields(line)
			for len(fields) > 0 && (strings.HasPrefix(fields[len(fields)-1], "&")) {
				fields = fields[:len(fields)-1]
			}
			b.WriteString(" " + strings.Join(withoutFlags(fields), " ") + " \n")
		}
	}
	tests, err := filepath.Glob("../../e2e/scenarios/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	own, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(tests, own...) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(raw), "\n") {
			var words []string
			for _, m := range stringLiteral.FindAllStringSubmatch(line, -1) {
				words = append(words, m[1])
			}
			b.WriteString(" " + strings.Join(words, " ") + " \n")
		}
	}
	return b.String()
}

// withoutFlags leaves out global flags and their values, which may come before the command.
func withoutFlags(words []string) []string {
	var out []string
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "--nkey", "--server", "--ca", "--user", "--account", "-o", "--output", "--config":
			i++
		default:
			out = append(out, words[i])
		}
	}
	return out
}
