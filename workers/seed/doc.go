// Package seed makes the small disks by which guests learn who they are: an ISO 9660 file system in the form of cloud-init's NoCloud data
// source, in a file in memory, below a read-only loop device.
//
// image.go says what is in one; dir.go keeps the files and their devices; loop.go asks the kernel. A seed is known by the path of its file,
// which holds its VM and a digest of what it says: what stands under a name is right, whoever made it, and another VM's is seen as such.
// Nothing is remembered: what there is, also by half, is read from the directory and from the kernel. It holds no secrets: keys are public.
package seed
