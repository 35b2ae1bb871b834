// Package scenarios holds the end-to-end tests on the virtual rack: real nats-server, real MariaDB, real Xen hosts that netboot, real
// IPMI, in QEMU machines. One rack is raised for all of them by the very command that users have, and is stopped at the end.
//
// The tests run in the order in which they stand, and each leaves the rack with what it found: hosts up, and the first VM running. They
// need root, the Debian packages of "go tool task deps", bin/cloudengine and the boot image ("go tool task build image"); what is
// missing fails the run. Nothing else is in this package.
//
// The hosts have a shell on their serial port (ce.shell), so that a test can do what a person at the machine could: kill the agent, make
// and destroy domains behind its back. Who works on a scenario raises a rack once and runs the test against it again and again:
//
//	cloudengine rack up --detach --dom0-args ce.shell --rack-dir DIR/rack --data DIR/data
//	go test -count=1 -v -run TestOrphans ./e2e/scenarios -up DIR
package scenarios
