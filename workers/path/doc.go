// Package path is a host's side of storage: it logs in to the proxies of the arrays that documents name, joins the paths to one array
// in a dm-multipath map, and cuts the disks of domains out of the maps as dm-linear devices.
//
// A disk's device is only ever made of the extents that its domain's document lists, over the map of the array that it names, and only
// while that map is there and large enough. Without a path that works, I/O waits; it never fails until the map's array is not wanted
// any more. What a document does not mention and what is in use is left as it is.
//
// The package keeps the maps itself and does not use multipathd: which paths there are and where they lead is in the documents, and all
// that is left is to ask each path whether it serves I/O (TEST UNIT READY) and to tell the kernel. A path is valid in the map while
// its target says that it is active; the kernel's own ALUA handler says the same of what it sees between two checks. It decides nothing
// about which proxy is active, writes nothing to any disk, and knows nothing of Xen.
package path
