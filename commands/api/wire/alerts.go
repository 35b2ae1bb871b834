package wire

import (
	"cloudengine/events"
	"cloudengine/events/feed/alerts"
)

// AlertsSubject is where alerts are asked for, by users of the platform.
func AlertsSubject(actor string) string { return "read." + actor + ".alert.all" }

// AlertSubject is where an alert is acknowledged, or sent again, by operators of the platform.
func AlertSubject(actor string) string { return "put." + actor + ".alert" }

// AlertsRequest asks for alerts: the open ones and those of which somebody could not be told, or all.
type AlertsRequest struct {
	All bool `json:"all,omitempty"`
}

// AlertsAnswer is the reply, the newest first.
type AlertsAnswer struct {
	Items []alerts.Record `json:"items"`
	More  int             `json:"more,omitempty"` // that are left out because the answer would be too long
	Error *events.Outcome `json:"error,omitempty"`
}

// What is done with an alert.
const (
	AlertAck   = "ack"
	AlertRetry = "retry" // send again what was given up
)

// AlertRequest does something with an alert.
type AlertRequest struct {
	ID     string `json:"id"` // or a unique beginning
	Action string `json:"action"`
	Reason string `json:"reason,omitempty"` // at most 1000 bytes
}

// AlertAnswer is the reply: the alert as it is now.
type AlertAnswer struct {
	Alert *alerts.Record  `json:"alert,omitempty"`
	Error *events.Outcome `json:"error,omitempty"`
}
