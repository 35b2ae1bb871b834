// Package feed publishes the log's events one by one on the FEED stream, and runs handlers on it.
//
// The Deriver promises that FEED holds every event of the log once, in the order of the log, whatever crashes or runs twice: the
// place of an event in the stream follows from the log alone, and every publish names the sequence that it expects. The Publisher and
// Subscriber are watermill's interfaces over JetStream; the Router adds retry, parking and correlation to handlers.
//
// A handler may see a message more than once, and after a rebuild of FEED it sees old ones again. FEED is derived: nothing is decided
// from it and nothing is lost with it. The package does not write EVENTS and holds no rules.
package feed
