package main

import (
	"context"
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

func (a *agent) inspect([]byte) any {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ans := inspectAnswer{Host: a.machine, Boot: a.conf.BootID}
	var err error
	if ans.Domains, err = a.worker.Inspect(ctx); err != nil {
		ans.Error = refused(events.CodeUnavailable, "%v", err)
		return ans
	}
	if ans.Usage, err = a.usage(ctx); err != nil { // the domains are known all the same
		a.log.Warn("inspect", "err", err)
	}
	return ans
}
