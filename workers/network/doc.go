// Package network makes the networks of accounts on a Xen host as the documents of DESIRED say: for each a network namespace of its own, with a
// bridge, a VXLAN tunnel (RFC 7348) to the other hosts over the underlay, and the vifs of the guests that are here. Who is where comes from
// the document: forwarding entries are written, never learned, and frames to everybody are sent to each host by itself (head-end replication).
//
// names.go, wishes.go, observed.go, plan.go and rules.go are pure; kernel.go and guard.go are the edges (netlink and nftables), plug.go is what
// the hotplug script and the worker do with one vif; worker.go joins them for package workers.
//
// It promises: a guest reaches the ports of its own network and this host's servers of it, and nothing of this host or of another network,
// because its vif is in a namespace that has neither; a vif is up only behind rules that let out what its NIC may send, by MAC, ARP, IPv4, IPv6
// and neighbour discovery; a vif whose NIC is not known is set down. Other hosts of the underlay are trusted. It does not route, and
// answers nothing itself: DHCP and DNS are answered by others on the bridge.
package network
