// Package audit proves what a log was at a time: a Merkle tree (RFC 6962) over its decisions, heads of it that are signed, anchors
// that a stranger can keep, and the check of a copy of the log against them.
//
// It promises that a copy which agrees with an anchor holds, up to the anchor's size, byte for byte the decisions that the log held
// when the anchor's head was signed; that a copy which does not agree is told so however all its digests were made anew; and that
// what was changed, removed, inserted, reordered or cut off is named as precisely as the anchor allows. It does not say that what was
// signed was true, and nothing of decisions after an anchor but that their chain is whole. It does no I/O but through what it is
// given.
package audit
