// Package projections holds the read models: for each one the events that it reads and the rows that follow from them, one file per model.
//
// It is pure: rows come from a Store and go back to it, and the only input is a decision of the log. It promises that the same
// decisions give the same rows, in whatever batches they come, and that an event that cannot be applied changes no row. It knows no
// SQL and no bus; package mysql stores the rows, package read answers questions about them.
package projections
