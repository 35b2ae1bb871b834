// Package proxy is the worker of a storage proxy, over documents of desired.KindArray: it joins disks of storage nodes into arrays, exports
// them to hosts, and keeps the records of the volumes on them.
//
// On each proxy an array has a front: the device-mapper device "ce-<array id>", of a size that never changes, which is what hosts are given.
// On its owner the front is linear over the owner device "ce-own-<array id>", which is linear over md; the uuid of the owner device holds the
// epoch under which md was assembled, and md cannot be stopped while it is there. On any other proxy the front's table is "error", and no leg
// is touched.
//
// It promises:
//   - An array is assembled under an active document of this boot only, from the document's legs only, and never under another epoch than the
//     document's: an array that runs under another one, or under none, is given up first.
//   - "standby" and "absent" are reported when the kernel says so: no md array with this id, no owner device, the front closed. That report
//     ends a grant.
//   - Giving up: the export is made standby, what is under way at the front is done, the front is closed, md is stopped.
//   - All is found again from the kernel and the disks; what is in memory only delays, or makes a check stricter.
//   - Extents that a volume gets are zeroed before the volume is ready; what was ready once (Keep), or is recorded, is never zeroed until the
//     volume is deleted. Nothing is written to extents that the records give to another volume.
//   - A volume that is made from an image has a record, and so is ready, only after the whole image was written and its digest and size were
//     right. A filling that fails or is cut off begins again with zeroing, because blocks of zeroes are not written.
//
// It does not: decide who owns an array, fence anybody, repair a split (it reports it), or activate anything by LVM.
package proxy
