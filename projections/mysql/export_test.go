package mysql

// LoadEarly has rebuilds of short logs load rows while the log is folded, as those of long ones do.
func LoadEarly() { eagerly = eagerLimits{every: 40, after: 20, least: 3} }

// Ended is ended.
var Ended = ended
