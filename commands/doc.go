// Package commands is the pure core: the commands of each aggregate, the state that deciding needs, decide, evolve and react.
//
// It promises that deciding changes nothing, that folding the same decisions gives the same state on every server, and that a command
// that is already true gives no events and no error. It takes no clock, random, I/O, logger or context: time, ids and
// candidates come in with the command. It does not append, answer or act.
package commands
