// Package scenarios holds the end-to-end tests on the virtual rack: real nats-server, real MariaDB, real Xen hosts that netboot, real
// IPMI, in QEMU machines. One rack is raised for all of them by the very command that users have, and is stopped at the end.
//
// The tests run in the order in which they stand, and each leaves the rack with what it found: hosts up, and the first VM running. They
// need root, the Debian packages of "go tool task deps", bin/cloudengine and the boot image ("go tool task build image"); what is
// missing fails the run. Nothing else is in this package.
package scenarios
