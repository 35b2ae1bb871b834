package main

import (
	"context"
	"encoding/json"
	"time"

	"cloudengine/events"
)

// inspectAnswer is the reply to ask.<machine>.inspect: what the hypervisor's own tools say now.
type inspectAnswer struct {
	Host    events.MachineID      `json:"host"`
	Boot    string                `json:"boot"`
	Domains []events.DomainReport `json:"domains"`
	Usage   *usage                `json:"usage,omitempty"`
	Error   *events.Outcome       `json:"error,omitempty"`
}

// inspect lists the domains, or, asked for it, tells only what the machine's processors did.
func (a *agent) inspect(body []byte) any {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var q struct {
		Usage bool `json:"usage"`
	}
	ans := inspectAnswer{Host: a.machine, Boot: a.conf.BootID}
	err := json.Unmarshal(body, &q)
	switch {
	case err != nil:
		ans.Error = refused(events.CodeInvalid, "read request: %v", err)
		return ans
	case q.Usage:
		ans.Usage, err = a.usage(ctx)
	default:
		ans.Domains, err = a.worker.Inspect(ctx)
	}
	if err != nil {
		ans.Error = refused(events.CodeUnavailable, "%v", err)
	}
	return ans
}
