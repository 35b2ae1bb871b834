// Package gateway makes a machine one of the two that connect an account's network with an external one. The gateway of a network is a network
// namespace with two devices: int, which is plugged into the network as a guest is (package network), and ext, a device of its own on
// the external card (macvlan). So networks that have the same addresses never meet, and the gateway of one account has nothing of another's.
//
// keepalived (VRRP) elects which of the two machines has the addresses, and the routes, of both sides; conntrackd tells the other one of each
// connection (FTFW). Both are started by the worker, and go on without it: a machine whose agent or bus is gone is still taken over from,
// and still takes over. nftables translate and filter; a set of rules is put in place in one transaction.
//
// wish.go, config.go, rules.go and plan.go are pure; kernel.go (netlink), table.go (nftables) and process.go are the edges; notify.go is what
// keepalived calls; worker.go joins them for package workers.
//
// It promises: the machine that is not active has neither an address nor a route of the network, so it answers nothing and forwards nothing. A
// machine takes over only when it hears the other one neither over the underlay nor on the external segment. It does not do IPv6.
package gateway
