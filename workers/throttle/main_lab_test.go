//go:build lab

package throttle_test

import (
	"fmt"
	"os"
	"testing"

	"cloudengine/workers/modprobe"
)

func TestMain(m *testing.M) {
	if err := modprobe.Load("dm_mod"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
