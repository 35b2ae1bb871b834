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
	Whole   *whole                `json:"whole,omitempty"`
	Storage *events.StorageReport `json:"storage,omitempty"`
	Maps    []events.MappedReport `json:"maps,omitzero"`

	Networks *events.NetworksReport `json:"networks,omitempty"`
	Error    *events.Outcome        `json:"error,omitempty"`
}

// whole is what is told beside the domains when all is asked for: stamps, what the agent holds and does, and the hypervisor.
type whole struct {
	Stamps     []events.StampReport    `json:"stamps"`
	Documents  []events.DocumentReport `json:"documents"`
	Busy       []events.Ref            `json:"busy,omitempty"` // objects whose steps are under way
	Hypervisor events.HypervisorReport `json:"hypervisor"`
	Image      string                  `json:"image"` // version of the boot image
}

// inspect lists the domains, or, asked for it, all that the machine knows; or tells only what the machine's processors did.
func (a *agent) inspect(body []byte) any {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var q struct {
		Usage   bool `json:"usage"`
		All     bool `json:"all"`
		Storage bool `json:"storage"`

		Networks bool `json:"networks"`
	}
	ans := inspectAnswer{Host: a.machine, Boot: a.conf.BootID}
	err := json.Unmarshal(body, &q)
	switch {
	case err != nil:
		ans.Error = refused(events.CodeInvalid, "read request: %v", err)
		return ans
	case q.Usage:
		ans.Usage, err = a.usage(ctx)
	case q.Storage && a.chain != nil:
		if ans.Storage, err = a.chain.look(ctx); err == nil && a.chain.mapped != nil {
			ans.Maps, err = a.chain.mapped(ctx)
		}
	case q.Storage:
	case q.Networks && a.chain != nil && a.chain.networks != nil:
		ans.Networks, err = a.chain.networks(ctx)
	case q.Networks:
	default:
		err = a.look(ctx, &ans, q.All)
	}
	if err != nil {
		ans.Error = refused(events.CodeUnavailable, "%v", err)
	}
	return ans
}

// look asks the toolstack and xenstore. What is under way is told as it was before the look: what begins later shows in a later one.
func (a *agent) look(ctx context.Context, ans *inspectAnswer, all bool) error {
	w := whole{Busy: a.loop.Busy(), Image: a.conf.Image, Documents: []events.DocumentReport{}}
	seen, err := a.worker.Inspect(ctx)
	if err != nil {
		return err
	}
	ans.Domains = seen.Domains
	if !all {
		return nil
	}
	info, err := a.edges.tools.Info(ctx)
	if err != nil {
		return err
	}
	w.Stamps = seen.Stamps
	w.Hypervisor = events.HypervisorReport{Version: info.Version, TotalMiB: info.TotalMiB, FreeMiB: info.FreeMiB, PCPUs: info.PCPUs}
	for _, d := range a.wishes.All() {
		w.Documents = append(w.Documents, events.DocumentReport{Kind: d.Kind, ID: d.ID, Generation: d.Generation})
	}
	ans.Whole = &w
	return nil
}
