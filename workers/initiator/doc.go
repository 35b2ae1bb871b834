// Package initiator logs a machine in to targets, over SRP and iSCSI, and finds, rescans and probes the units that it gets from them. It is a
// tool for the workers of proxies and hosts, and keeps no wishes of its own.
//
// session.go and unit.go read sysfs, sense.go is pure; srp.go, iscsi.go, daemon.go, probe.go and silence.go are the edges.
//
// It promises: Login may be repeated, and nil means that the session works now; what is seen comes from sysfs and costs no process; no call
// outlasts its context, though what the kernel does not give back goes on in the background, is joined by the next call of the same kind, and
// is waited for by Wait; while Run runs, an SRP target that does not answer at its address is taken for dead within about 8 s, and what waits on
// its session fails; commands are never given less time than the transport needs to notice a dead target, because the SCSI layer's own
// error handling then stalls the whole session. It does not decide whom to log in to, and does not discover: names follow from machines' ids.
package initiator
