package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// manuals are those in which commands are shown.
var manuals = []string{"../../README.md", "GUIDE.md", "FAQ.md", "../api/DESIGN.md", "../../bootimage/DESIGN.md"}

var codeSpan = regexp.MustCompile("`([^`\n]+)`")

// TestPagesShowCommandsThatExist parses every command line in the pages: the command must exist, and have the flags.
func TestPagesShowCommandsThatExist(t *testing.T) {
	nouns := map[string]bool{}
	for _, c := range (&app{}).rootCommand().Commands() {
		nouns[c.Name()] = c.HasAvailableSubCommands()
	}
	checked := 0
	for _, page := range manuals {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range shown(string(raw), nouns) {
			checked++
			if err := parses(line); err != "" {
				t.Errorf("%s: %s: %s", page, strings.Join(line, " "), err)
			}
		}
	}
	if checked < 60 {
		t.Fatalf("only %d command lines were found", checked)
	}
}

// shown finds command lines: those that begin with the program's name, and spans of code that begin with a noun and a verb.
func shown(text string, nouns map[string]bool) [][]string {
	var out [][]string
	add := func(line string) {
		words := shellWords(line)
		for i, w := range words {
			if w == "cloudengine" || w == "bin/cloudengine" || w == "#" {
				words = words[i:]
				break
			}
		}
		if len(words) > 1 && words[0] != "#" {
			out = append(out, words[1:])
		}
	}
	fenced := false
	for _, line := range strings.Split(text, "\n") {
		code := strings.TrimSpace(line)
		if strings.HasPrefix(code, "```") {
			fenced = !fenced
			continue
		}
		if (fenced || strings.HasPrefix(line, "    ")) && (strings.HasPrefix(code, "cloudengine ") || strings.HasPrefix(code, "bin/cloudengine ")) {
			add(code)
			continue
		}
		for _, m := range codeSpan.FindAllStringSubmatch(line, -1) {
			words := strings.Fields(m[1])
			switch {
			case words[0] == "cloudengine":
				add(m[1])
			case nouns[words[0]] && len(words) > 1 && !nouns[words[1]] && !strings.ContainsAny(words[1], "{=…,"):
				add("cloudengine " + m[1])
			}
		}
	}
	return out
}

// shellWords splits a line as a shell does, as far as our pages need it, and ends at a comment or a pipe.
func shellWords(line string) []string {
	var out []string
	word, quote, open := "", rune(0), false
	end := func() {
		if open {
			out = append(out, word)
		}
		word, open = "", false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, open = r, true
		case quote == 0 && r == ' ':
			end()
			if n := len(out); n > 0 && (out[n-1] == "#" || out[n-1] == "|" || out[n-1] == "&") {
				return out[:n-1]
			}
		default:
			word, open = word+string(r), true
		}
	}
	end()
	return out
}

// parses says what is wrong with a command line, or nothing.
func parses(words []string) string {
	root := (&app{}).rootCommand()
	c, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	if c == root || c.HasAvailableSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return "there is no such command"
	}
	if err := c.ParseFlags(withoutDots(rest)); err != nil {
		return err.Error()
	}
	return ""
}

// withoutDots leaves out the dots that stand for what a reader knows.
func withoutDots(words []string) []string {
	var out []string
	for _, w := range words {
		if w == "…" {
			w = "1"
		}
		out = append(out, w)
	}
	return out
}
