// Package power carries out power actions on machines through their BMCs, and watches the BMCs' health.
//
// It promises that an action is carried out only while the log still wants it (the operation runs, the message is young, and what is to
// be switched off is still the boot that the decision was about), so that a message that comes twice, late, out of order or from a
// replay switches nothing; that "off" is reported as proof only after it was read twice, some time apart, in sessions whose every answer
// was authenticated; and that a result is repeated until it is answered. An act and the reading before it share one BMC session, which
// the BMC itself ends after about a minute (IPMI 2.0, section 6.12.15): a worker that was paused in between cannot act when it wakes.
//
// Consoles opens serial consoles of machines by the same BMCs (Serial over LAN): one at a time for each machine, encrypted and authenticated,
// with bounded memory, closed when nobody reads. What a machine prints is handed on as it is.
//
// It does not decide what follows from a report, never fences by itself, and logs no secret.
package power
