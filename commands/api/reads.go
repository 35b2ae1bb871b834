package api

import (
	"context"
	"encoding/json"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// maxReadAnswer bounds the answer to a question, below the bus's limit of 1 MiB for one message.
const maxReadAnswer = 900 << 10

// read answers get and list from the read models.
func (s *Service) read(ctx context.Context, m *nats.Msg) any {
	actor, kind, verb, err := events.SplitDo(m.Subject)
	if err != nil {
		return readError(refusal(events.CodeInvalid, "%v", err))
	}
	u, ok := s.cfg.Users.User(actor)
	if !ok {
		return readError(refusal(events.CodeUnauthorized, "there is no user %q", actor))
	}
	if !s.limits.allow(actor, s.cfg.ActorRate) {
		return busyAnswer(m.Subject, "more than "+perSecond(s.cfg.ActorRate)+" requests of "+actor+": ask again")
	}
	var q events.ReadRequest
	if err := strict(m.Data, &q); err != nil {
		return readError(refusal(events.CodeInvalid, "%v", err))
	}
	if q.Limit < 0 || q.Limit > 1000 {
		return readError(refusal(events.CodeInvalid, "field \"limit\": want 1 to 1000, or 0 for 100"))
	}
	if q.At != "" {
		if !s.past.begin(actor) {
			return busyAnswer(m.Subject, "a question of "+actor+" about the past is being answered already: ask again")
		}
		defer s.past.end(actor)
	}
	if verb == "get" {
		if q.ID == "" {
			return readError(refusal(events.CodeInvalid, "field \"id\": want an id, a unique beginning of one, or a name"))
		}
		return s.cfg.Reader.Get(ctx, u, kind, q)
	}
	return fit(s.cfg.Reader.List(ctx, u, kind, q))
}

// fit shortens a page that would not fit into one message; the rest comes with the next page.
func fit(a events.ReadAnswer) events.ReadAnswer {
	size := 0
	for i, item := range a.Items {
		if size += len(item) + 1; size > maxReadAnswer && i > 0 {
			var id struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(a.Items[i-1], &id); err != nil || id.ID == "" {
				o := refusal(events.CodeInvalid, "the page is larger than %d bytes: ask with a smaller limit", maxReadAnswer)
				return events.ReadAnswer{Applied: a.Applied, Error: &o}
			}
			a.Items, a.Next = a.Items[:i], id.ID
			return a
		}
	}
	return a
}

func readError(o events.Outcome) events.ReadAnswer { return events.ReadAnswer{Error: &o} }

// console asks the host of a VM for the end of its console.
func (s *Service) console(ctx context.Context, m *nats.Msg) any {
	u, bad := s.who(m.Subject, events.RoleRead)
	if bad != nil {
		return wire.ConsoleAnswer{Error: bad}
	}
	var r wire.ConsoleRequest
	if err := strict(m.Data, &r); err != nil {
		return consoleError(r.VM, refusal(events.CodeInvalid, "%v", err))
	}
	if r.Bytes == 0 {
		r.Bytes = 16 << 10
	}
	if r.Bytes < 1 || r.Bytes > wire.MaxConsole {
		return consoleError(r.VM, refusal(events.CodeInvalid, "field \"bytes\": want 1 to %d", wire.MaxConsole))
	}
	vm := s.cfg.Reader.Get(ctx, u, events.KindVM, events.ReadRequest{ID: string(r.VM)})
	if vm.Error != nil {
		return consoleError(r.VM, *vm.Error)
	}
	if len(vm.Items) == 1 && r.LastRun {
		return s.lastRun(vm.Items[0], r)
	}
	var row struct {
		ID   events.VMID       `json:"id"`
		Host *events.MachineID `json:"host"`
	}
	if len(vm.Items) != 1 || json.Unmarshal(vm.Items[0], &row) != nil {
		return consoleError(r.VM, refusal(events.CodeUnavailable, "the VM could not be looked up"))
	}
	if row.Host == nil {
		return consoleError(row.ID, refusal(events.CodeConflict, "the VM has no host now; only one that runs has a console (see last_run)"))
	}
	r.VM = row.ID
	return s.askConsole(ctx, *row.Host, r)
}

func (s *Service) askConsole(ctx context.Context, host events.MachineID, r wire.ConsoleRequest) wire.ConsoleAnswer {
	body, err := json.Marshal(r)
	if err != nil {
		return consoleError(r.VM, refusal(events.CodeInvalid, "%v", err))
	}
	reply, err := s.cfg.Bus.RequestWithContext(ctx, events.MachineRequestSubject(host, "console"), body)
	if err != nil {
		return consoleError(r.VM, refusal(events.CodeConflict, "host %s does not answer (%v)", host, err))
	}
	return readConsole(reply.Data, host, r)
}

func consoleError(vm events.VMID, o events.Outcome) wire.ConsoleAnswer {
	return wire.ConsoleAnswer{VM: vm, Error: &o}
}
