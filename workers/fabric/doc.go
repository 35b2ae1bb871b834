// Package fabric attaches a machine to its storage networks as the documents of DESIRED say: the card's address and MTU, the kernel modules
// of the transport, and for SRP over Ethernet the soft RDMA device (rxe) on the card.
//
// desired.go, observed.go and plan.go are pure; kernel.go is the edge (netlink and sysfs); worker.go joins them for package workers.
//
// It promises: the card that the machine booted from, a card that is a port of a bridge or a bond, and a card that no document names are never
// touched, and each step looks again before it acts; a card that two documents want is given to neither. It does not log in to anything
// (package initiator), exports nothing (package lio), and does not bring an address back that someone else takes away between two looks
// before the next one.
package fabric
