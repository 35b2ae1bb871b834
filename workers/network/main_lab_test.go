//go:build lab

package network

import (
	"fmt"
	"os"
	"testing"

	"cloudengine/workers/modprobe"
)

// TestMain loads what the tests and the worker need: the image's kernel loads nothing by itself.
func TestMain(m *testing.M) {
	for _, name := range append([]string{"veth", "ifb"}, modules...) {
		if name == "xen-netback" {
			continue
		}
		if err := modprobe.Load(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
