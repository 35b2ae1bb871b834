// Command cloudengine is the control plane of a Xen cloud and its command line: "serve" runs a managing server, "rack" a virtual rack
// to try it in, and the nouns (vm, machine, host, …) send intents and read what is so.
//
// The command line promises: data on standard output and talk on standard error; the id of an intent is printed before anything is
// done; exit code 0 ok, 1 error, 2 usage, 3 not found, 4 conflict, 5 refused by a guard, 6 timeout while the operation goes on;
// what is not known is printed as "?". It holds no rules: what is allowed is decided by the server.
package main

import (
	"context"
	"os"
	"os/signal"

	"cloudengine/e2e/rack"

	"golang.org/x/sys/unix"
)

func main() {
	if code, is := rack.RunHelper(os.Args); is {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	code := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}
