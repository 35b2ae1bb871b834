// Package storage keeps a storage node as its documents say: it finds the node's disks, and gives each to the machines that its document
// names and to nobody else.
//
// desired.go, plan.go, report.go and signature.go are pure; disks.go, records.go, wipe.go and worker.go are the edges, below a root directory.
// What is exported is read from the kernel and from nowhere else (package lio); only which document an export follows is kept in small files,
// for this boot, written before anything that they allow.
//
// It promises: without a document of this boot nothing is given; a document without an opinion, or none, changes nothing; nothing is given
// over a fabric whose link does not stand; a document of a lower epoch of the same array takes away and never gives; a machine is left out of
// the report only when none of its commands can reach the disk and none is under way; a disk is written only under a document that says that
// its array is deleted, when nobody is given it or holds it, and when what is on it is of that very array. It does not assemble or mount what
// is on disks, and does not decide who may have what.
package storage
