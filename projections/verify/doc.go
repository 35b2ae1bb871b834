// Package verify compares what is stored, told and seen with what the log says: the rows of the read models and the shape of their
// tables, the documents on DESIRED, and what hosts answer live. What the log says is a fold of its own, made for this comparison.
//
// It is pure: it promises the same findings for the same input, each with what to do next, and that nothing is changed. It asks nobody,
// reads no log and judges no log: the invariants of the log itself are commands.Audit's. A system that lives moves between two looks, so
// a difference counts only when it is there, the same, in every look (Steady); the others are told apart.
//
// What has no objects yet has no place here: extents of volume groups (I3) and arrays (I2) get a file of their own with their kind.
package verify
