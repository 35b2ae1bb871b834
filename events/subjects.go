package events

import (
	"fmt"
	"strings"
)

// Streams. Only the servers publish to them.
const (
	StreamEvents  = "EVENTS"
	StreamFeed    = "FEED"
	StreamDesired = "DESIRED"

	SubjectEvents = "events" // the one subject of EVENTS
)

// Bus accounts.
const (
	BusControl  = "CP"
	BusUsers    = "USERS"
	BusMachines = "MACHINES"
)

// DoSubject is where an intent is sent.
func DoSubject(actor string, kind Kind, verb string) string {
	return "do." + actor + "." + string(kind) + "." + verb
}

// ReadSubject is where a question is sent; verb is get or list.
func ReadSubject(actor string, kind Kind, verb string) string {
	return "read." + actor + "." + string(kind) + "." + verb
}

// ReportSubject is where a machine reports; kind is enrol, state or console.
func ReportSubject(m MachineID, kind string) string { return "rep." + string(m) + "." + kind }

// The kinds of reports.
const (
	ReportEnrol   = "enrol"   // body Enrol
	ReportState   = "state"   // body Report
	ReportStorage = "storage" // body StorageReport

	ReportConsole = "console" // body ConsoleTail
)

// MachineRequestSubject is where the control plane asks a live machine something that is not state: its console, its log.
func MachineRequestSubject(m MachineID, what string) string { return "ask." + string(m) + "." + what }

// TelemetrySubject carries what never enters the log.
func TelemetrySubject(m MachineID, what string) string { return "tel." + string(m) + "." + what }

// FeedSubject carries one event.
func FeedSubject(e Event) string {
	return "feed." + string(e.Aggregate.Kind) + "." + e.Aggregate.ID + "." + strings.ReplaceAll(e.Type, ".", "_")
}

// DesiredSubject carries the last document for one object on one machine.
func DesiredSubject(m MachineID, kind Kind, id string) string {
	return "desired." + string(m) + "." + string(kind) + "." + id
}

// DesiredConsumer is the name of the consumer on DESIRED that is made for one boot of a machine at its enrolment.
func DesiredConsumer(m MachineID, boot string) string {
	return "m_" + string(m) + "_" + strings.ReplaceAll(boot, "-", "")
}

// IsToken says whether s can stand as one token of a subject: 1 to 64 of a–z, 0–9, "-", "_".
func IsToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// SplitDo takes do.<actor>.<kind>.<verb> apart.
func SplitDo(subject string) (actor string, kind Kind, verb string, err error) {
	p := strings.Split(subject, ".")
	if len(p) != 4 || (p[0] != "do" && p[0] != "read") {
		return "", "", "", fmt.Errorf("read subject %q: want do.<actor>.<kind>.<verb>", subject)
	}
	return p[1], Kind(p[2]), p[3], nil
}

// SplitReport takes rep.<machine>.<kind> apart.
func SplitReport(subject string) (m MachineID, kind string, err error) {
	p := strings.Split(subject, ".")
	if len(p) != 3 || p[0] != "rep" {
		return "", "", fmt.Errorf("read subject %q: want rep.<machine>.<kind>", subject)
	}
	return MachineID(p[1]), p[2], nil
}

// Headers of FEED messages.
const (
	HeaderNumber = "Ce-Number" // number of the decision
	HeaderIndex  = "Ce-Index"  // index of the event in its decision, from 0
)

// FeedMessage is the body of a FEED message.
type FeedMessage struct {
	Number uint64   `json:"number"`
	Index  int      `json:"index"`
	Time   string   `json:"time"` // RFC 3339, of the decision's block
	Intent IntentID `json:"intent"`
	Actor  string   `json:"actor"`
	Reason string   `json:"reason,omitempty"`
	Cause  string   `json:"cause,omitempty"`
	Event  Event    `json:"event"`
}
