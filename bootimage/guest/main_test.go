package main

import (
	"strings"
	"testing"
)

func TestIntroductionNamesTheGuest(t *testing.T) {
	words := commandLine("console=hvc0 quiet ce.vm=v1 ce.name=web1 ce.epoch=3 ce.after=5:reboot\n")
	line := introduction(words)
	for _, want := range []string{"guest: I am ", " name=web1 ", " vm=v1 ", " epoch=3 ", " vcpus=", " memory_kib="} {
		if !strings.Contains(" "+line, want) {
			t.Errorf("%q lacks %q", line, want)
		}
	}
	if words["ce.after"] != "5:reboot" {
		t.Errorf("ce.after is %q", words["ce.after"])
	}
}

func TestMemTotal(t *testing.T) {
	for text, want := range map[string]string{"MemTotal:          81776 kB\nMemFree: 1 kB\n": "81776", "": "?"} {
		if got := memTotal(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
