// Package md makes and runs md RAID 1+0 arrays (level 10, near layout, metadata 1.2) out of exactly the devices that it is given.
//
// It promises: superblocks are read and judged here before the kernel sees a member (Choose); an array is assembled by ioctl from those
// members and nothing else, and stopped again if it did not come up as expected; nothing is scanned, nothing assembles by itself. No member is
// failed that is the last good copy of its set. What is told of an array is what sysfs says (Linux, Documentation/admin-guide/md.rst).
//
// It does not: decide who may write an array (documents do), start anything that was stopped, or repair a split.
//
// mdadm is run only to write the first superblocks and bitmap of an array or of a new member; all else is ioctl (include/uapi/linux/raid/md_u.h)
// and sysfs.
package md
