// Package dm makes, changes and lists device-mapper devices by ioctl on /dev/mapper/control (Linux, Documentation/admin-guide/device-mapper and
// include/uapi/linux/dm-ioctl.h). No library and no udev is needed: the nodes /dev/mapper/<name> are made here if nobody else makes them.
//
// It promises: a table is swapped as a whole, with all I/O of the old one done before the new one begins; what List tells is what the kernel
// has. It keeps no state, so it may be used by several goroutines and processes, but not for the same device at the same time.
//
// It does not: load dm_mod, know what a table is good for, or remove what it was not asked to.
package dm
