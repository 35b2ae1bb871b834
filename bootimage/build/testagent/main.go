// Command testagent stands in for noded in tests of the boot image: it brings the machine up and says so.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	for {
		fmt.Fprintln(os.Stderr, "testagent: up")
		time.Sleep(10 * time.Second)
	}
}
