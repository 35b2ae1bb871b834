package scenarios

import (
	"bytes"
	"strings"
	"testing"
)

// TestSerialConsole: what is typed reaches the machine's serial port through the bus, the server and the controller, and its answer comes back.
func TestSerialConsole(t *testing.T) {
	host := shared.Machines()[0].Name
	cmd := command(t.Context(), "machine", "console", host, "--write", "--for", "20s")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("\recho over-'l'an\r"), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("machine console: %v\n%s", err, errs.String())
	}
	if !strings.Contains(out.String(), "over-lan") {
		t.Errorf("the shell on the console did not answer: %q\n%s", out.String(), errs.String())
	}
	quiet, said, code := cli(t, "machine", "console", host, "--for", "2s") // for reading: nothing is typed
	if code != 0 || strings.Contains(quiet, "over-lan") {
		t.Errorf("a console for reading: exit code %d, %q\n%s", code, quiet, said)
	}
}
