package api

import (
	"context"
	"encoding/json"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// inspect asks a host live what its hypervisor's tools say, or any machine what it sees of storage. For operators of the platform: it tells of all accounts' domains.
func (s *Service) inspect(ctx context.Context, m *nats.Msg) any {
	u, bad := s.who(m.Subject, events.RoleRead)
	if bad != nil {
		return wire.InspectAnswer{Error: bad}
	}
	fail := func(code, format string, a ...any) wire.InspectAnswer {
		o := refusal(code, format, a...)
		return wire.InspectAnswer{Error: &o}
	}
	if u.Account != "" {
		return fail(events.CodeForbidden, "a host runs domains of all accounts: this is for operators of the platform")
	}
	var r wire.InspectRequest
	if err := strict(m.Data, &r); err != nil {
		return fail(events.CodeInvalid, "%v", err)
	}
	kind := events.KindHost
	if r.Storage { // storage nodes and proxies are no hosts
		kind = events.KindMachine
	}
	row := s.cfg.Reader.Get(ctx, u, kind, events.ReadRequest{ID: string(r.Host)})
	if row.Error != nil {
		return wire.InspectAnswer{Error: row.Error}
	}
	var h struct {
		ID events.MachineID `json:"id"`
	}
	if len(row.Items) != 1 || json.Unmarshal(row.Items[0], &h) != nil || h.ID == "" {
		return fail(events.CodeUnavailable, "the host could not be looked up")
	}
	a, err := AskHost(ctx, s.cfg.Bus, h.ID, r)
	if err != nil {
		return fail(events.CodeConflict, "host %s does not answer (%v)", h.ID, err)
	}
	return a
}
