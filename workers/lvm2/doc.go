// Package lvm2 reads what LVM has written on a device: its label, and the metadata of the volume group in LVM's text format.
//
// The program lvm does the same. Its start alone takes seconds in an emulated machine, and it looks at more than it was asked for; a proxy reads
// records at each takeover and after each change. Formats: lib/format_text/layout.h, lib/label/label.h and lib/config of LVM 2.03; lvm(8).
//
// It promises: what it gives was written as a whole (its checksums are right), and is linear segments on this device alone; anything else is an
// error. What has neither label nor group is told apart from what is damaged. It never writes, and takes nothing from a device for granted:
// sizes are bounded, and texts are fuzzed.
package lvm2
