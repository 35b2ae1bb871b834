// Package dns lets the guests of a network find each other by name, on each host for its own guests: it is authoritative for the zone
// NETWORK.ACCOUNT.internal. and for the addresses of the network's subnets, from the network's document of DESIRED alone. So every host gives
// the same answers, a restart forgets nothing, and what was said last goes on to be answered without a control plane.
//
// zone.go makes a document ready, answer.go and reverse.go are pure: a query and a document make an answer, or the reason why there is none;
// server.go, slots.go, tcp.go and upstream.go are the edge.
//
// It promises: every NIC's VM is found, wherever it is, by the addresses of all its NICs on the network, and its name by each of them; what is
// not there is told apart from what has no record of that type; answers over UDP have at most 1232 bytes, those to ANY one record (RFC 8482).
// Only addresses of NICs of domains that may run on this host (Port.Here) are answered; each has a queue of its own and a bound on its
// queries, which it does not share over UDP: a storm of one fills no other's queue. What is not the zone's is refused, or, where upstream
// resolvers are named, asked there; never names below internal., and never the names of private addresses (RFC 6303).
//
// It does not: cache or check what comes from upstream, sign anything (DNSSEC), transfer zones, take updates, or keep a guest from sending
// under another one's address (the host's filters do).
package dns
