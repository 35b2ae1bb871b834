package job

import (
	"strings"
	"testing"
)

func TestEnd(t *testing.T) {
	for _, want := range []int{0, 1, 137} {
		if got, ok := ParseEnd(End(want)); !ok || got != want {
			t.Errorf("%d is read as %d, %v", want, got, ok)
		}
	}
	for _, line := range []string{"", Begin, "--- lab: exit code ", "--- lab: exit code x", " --- lab: exit code 1", "ok"} {
		if code, ok := ParseEnd(line); ok {
			t.Errorf("%q is read as %d", line, code)
		}
	}
}

func TestKernelArgs(t *testing.T) {
	if got := KernelArgs(""); strings.HasSuffix(got, " ") || !strings.Contains(got, "rdinit=/lab/init ") {
		t.Errorf("words %q", got)
	}
	if got := KernelArgs("tsc=reliable"); !strings.HasSuffix(got, " tsc=reliable") {
		t.Errorf("words %q", got)
	}
}
