// Package dhcp gives the guests of a host their addresses: DHCPv4 (RFC 2131), DHCPv6 (RFC 8415) and router advertisements (RFC 4861), each
// answered from the network's document of DESIRED alone. There are no leases: a NIC has its addresses until it is deleted, so every host gives
// the same answers, a restart forgets nothing, and what was said last goes on to be answered without a control plane.
//
// network.go makes a document ready; four.go, six.go and router.go are pure: a packet and a document make an answer, or the reason why there is
// none; wire.go reads and writes the headers below them; server.go and open.go are the edge.
//
// It promises: only NICs of domains that may run on this host (Port.Here) are answered, known by the hardware address that their frames come
// from, which also must be the one that they speak of; answers go into a frame for that address alone, broadcast or not, so nobody else gets
// one; they carry whole checksums. Each guest has sockets of its own, so one that asks too often is read slowly, and fills no queue but its own
// (the price: what comes to the bridge passes two short filters in the kernel for each guest of the host). A network without an IPv6 subnet
// hears nothing of IPv6.
//
// It does not: keep a guest from sending frames under another one's hardware address, or a storm of broadcasts to its neighbours (the host's
// filters do), check UDP checksums of requests
// (those of a guest on the same machine are often not made), serve relays, fragments, prefixes (IA_PD) or temporary addresses (IA_TA), tell of
// an IPv6 router (gateways do not route IPv6), or take back an address before its hour has passed.
package dhcp
