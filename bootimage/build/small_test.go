package build

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestSmallKernelHasOurConfiguration(t *testing.T) {
	theirs := builtInFirst + strings.Repeat("# more\n", 20) + "if search -s -f /grub/grub.cfg ; then\n\t" + builtInLast
	loader := []byte("\x7fELF\x00grub.cfg\x00" + theirs + "\x00\x00rest")
	small, err := smallKernel(loader)
	if err != nil {
		t.Fatal(err)
	}
	if len(small) != len(loader) || !bytes.HasSuffix(small, []byte("\n\x00\x00rest")) || bytes.Contains(small, []byte("search")) {
		t.Errorf("made %q", small)
	}
	if !bytes.HasPrefix(small, []byte("\x7fELF\x00grub.cfg\x00echo '"+SmallSays+"'\n")) {
		t.Errorf("made %q", small)
	}
	for _, other := range []string{"", "\x7fELF", builtInFirst + "\x00", builtInFirst + strings.Repeat("echo other\n", 50) + "\x00"} {
		if _, err := smallKernel([]byte(other)); !errors.Is(err, errNoConfig) {
			t.Errorf("%q: %v", other, err)
		}
	}
}
