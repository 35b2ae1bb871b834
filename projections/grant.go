package projections

import (
	"encoding/json"
	"time"

	"cloudengine/events"
)

// Grant is a row of vm_grants: the history of who was allowed to run a VM, and what proved the end.
type Grant struct {
	ID          string `json:"id"`
	VM          string `json:"vm"`
	VMName      string `json:"vm_name"`
	Account     string `json:"account"`
	Epoch       string `json:"epoch"`
	Host        string `json:"host"`
	HostName    string `json:"host_name"`
	Boot        string `json:"boot"`
	MemoryMiB   int    `json:"memory_mib"`
	OverheadMiB int    `json:"overhead_mib"`
	VCPUs       int    `json:"vcpus"`

	DeviceModelMiB int `json:"device_model_mib"`

	Adopt     *string         `json:"adopt"`
	Scores    json.RawMessage `json:"scores"`
	Live      bool            `json:"live"`
	GrantedBy uint64          `json:"granted_by"`
	GrantedAt time.Time       `json:"granted_at"`
	EndedBy   *uint64         `json:"ended_by"`
	EndedAt   *time.Time      `json:"ended_at"`
	Proof     *string         `json:"proof"`
	How       *string         `json:"how"`
	Stale     bool            `json:"stale"`
	ChangedBy uint64          `json:"changed_by"`
	ChangedAt time.Time       `json:"changed_at"`
}

var grantTable = newTable[Grant]("vm_grants")

var grants = &Model{
	Kind: KindGrant, Table: grantTable, Scope: ScopeOwn, event: grantEvent, Private: []string{"scores"},
	Reads: []string{"vm.run_granted.v1", "vm.grant_ended.v1", "vm.stale_domain_ended.v1", "vm.grant_resized.v1"},
}

func grantID(vm string, e events.Epoch) string { return vm + "." + e.String() }

func grantEvent(f *fold, e events.Event) error {
	switch d := e.Data.(type) {
	case events.VMRunGranted:
		v, err := need[VM](f, vmTable, e.Aggregate.ID)
		if err != nil {
			return err
		}
		id := grantID(e.Aggregate.ID, d.Epoch)
		f.put(grantTable, id, &Grant{ID: id, VM: v.ID, VMName: v.Name, Account: v.Account, Epoch: d.Epoch.String(), Host: string(d.Host), HostName: d.HostName,
			Boot: d.Boot, MemoryMiB: d.MemoryMiB, OverheadMiB: d.OverheadMiB, VCPUs: d.VCPUs, DeviceModelMiB: d.DeviceModel, Adopt: known(d.Adopt), Scores: asJSON(d.Scores),
			Live: true, GrantedBy: f.rec.Number, GrantedAt: f.now()})
	case events.VMGrantEnded:
		return change(f, grantTable, grantID(e.Aggregate.ID, d.Epoch), func(g *Grant) {
			number, now := f.rec.Number, f.now()
			g.Live, g.EndedBy, g.EndedAt, g.Proof, g.How = false, &number, &now, known(d.Proof), known(d.How)
			g.Stale = d.Proof == events.ProofOverride // its domain may still be there: its memory stays taken
		})
	case events.VMGrantResized:
		return change(f, grantTable, grantID(e.Aggregate.ID, d.Epoch), func(g *Grant) { g.MemoryMiB, g.VCPUs = d.Counted, d.VCPUs })
	case events.VMStaleDomainEnded:
		return changeIf(f, grantTable, grantID(e.Aggregate.ID, d.Epoch), func(g *Grant) { g.Stale = false })
	}
	return nil
}
