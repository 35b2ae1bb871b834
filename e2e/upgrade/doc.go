// Package upgrade holds logs that earlier releases wrote, and runs them through this one: testdata/<commit>/*.log are archives (package
// archive). core.log was decided by that release's core, in random histories with every kind of event that it could decide; the others were
// written by its programs, serve and noded. They are never made again: a log is for ever. It has no other content.
package upgrade
