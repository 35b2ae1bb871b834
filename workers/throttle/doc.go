// Package throttle bounds what may be read from and written to a block device, by the kernel's block throttle.
//
// It uses the throttle of version 1 of control groups, and its root group: there a limit belongs to the device, whoever reads or writes it.
// A group of version 2 limits its members only, and its root has no limits: the threads that Xen's backend serves a disk by come when the
// guest connects, and each would be without a limit until it was found and moved.
//
// It promises: what Limits gives is what the kernel has; a limit holds for requests that come after Set, and for those that wait in the
// throttle; a limit ends with its device. It does not say who may have which limit.
package throttle
