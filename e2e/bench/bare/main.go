// Command bare stands in for the agent in the raw side of the boot benchmark: it has a shell say on the console that it runs, and
// does nothing else. What it says comes when the shell runs, not before.
package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	err := syscall.Exec("/bbin/gosh", []string{"gosh", "-c", "echo bench: dom0 has a shell; sleep 1000000"}, os.Environ())
	fmt.Fprintln(os.Stderr, "bare: start a shell:", err)
	os.Exit(1)
}
