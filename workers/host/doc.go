// Package host runs domains on one Xen host as the documents of DESIRED say, and never one too many.
//
// desired.go, observed.go, stamp.go, plan.go, report.go and config.go are pure: documents and what is seen go in, plans and reports
// come out. xl.go, xenstore.go and blobs.go are the edges; worker.go joins them for package workers.
//
// It promises: a domain is made paused, stamped in a part of xenstore that only dom0 can write, read back, and only then started; a
// domain without a stamp is destroyed only if it has our VM's UUID, is paused and never ran; what else is not ours is reported and
// left alone unless a document says that it shall go; an end is reported only from a complete list. It does not decide where or
// whether a VM runs, and it does not fence: a host that is cut off goes on running what it runs.
package host
