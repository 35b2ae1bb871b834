// Package events is the vocabulary of CloudEngine: the aggregates' events with their permanent wire names, the block that is
// stored in the log, the intents, outcomes and reports that travel over the bus, and the subjects they travel on.
//
// It promises that a published name and version never changes its meaning, and that everything it encodes it can decode again.
// It does no I/O, holds no rules and decides nothing.
package events
