// Package alerts tells people of what should not be, and of what somebody has overridden.
//
// Events on FEED, refused contradictions in the log, and measures of the server (lag, parked events, disks), raise alerts and end them. The Book keeps them in a stream of
// its own, ALERTS: replicated, with fsync, one message for each alert. It is no read model: measures are not in the log, and neither are
// acknowledgements nor what was sent to whom, so it cannot be made anew from the log. A table in the database is a copy of it.
//
// It promises: of one key (rule and object) one alert is open at most; each raise and each end is sent to each receiver at least once,
// an alert's raise before its end, under an id that stays the same, whatever is killed in between; an event that comes again, or a FEED that was rebuilt,
// raises nothing anew; what could not be sent for long is kept and shown as dead. It decides nothing.
package alerts
