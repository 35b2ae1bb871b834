package api

import (
	"context"
	"encoding/json"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// MachineConsoles holds the serial consoles of machines that are open, one for each machine.
type MachineConsoles interface {
	Open(ctx context.Context, machine events.MachineID, user string, write bool) (session string, err error)
	// Read waits for what was printed after an offset, until ctx ends. over: nothing will follow.
	Read(ctx context.Context, session string, from uint64) (data []byte, next uint64, over bool, err error)
	Type(ctx context.Context, session string, text []byte) error
	Close(session string)
	// Of tells whose console it is.
	Of(session string) (user string, machine events.MachineID, err error)
}

// consoleWait is how long a reader waits for output before it is told that there is none: well below the time of a request.
const consoleWait = 3 * time.Second

// machineConsole opens the serial console of a machine, or goes on with one that this user opened. For operators of the platform: it is
// the console of the control domain, below all VMs. To type on it is for administrators.
func (s *Service) machineConsole(ctx context.Context, m *nats.Msg) any {
	fail := func(code, format string, a ...any) wire.MachineConsoleAnswer {
		o := refusal(code, format, a...)
		return wire.MachineConsoleAnswer{Error: &o}
	}
	u, bad := s.who(m.Subject, events.RoleOperate)
	if bad != nil {
		return wire.MachineConsoleAnswer{Error: bad}
	}
	var r wire.MachineConsoleRequest
	if err := strict(m.Data, &r); err != nil {
		return fail(events.CodeInvalid, "%v", err)
	}
	switch {
	case s.cfg.Serial == nil:
		return fail(events.CodeUnavailable, "this server opens no consoles of machines")
	case u.Account != "":
		return fail(events.CodeForbidden, "consoles of machines are for operators of the platform")
	case (r.Write || len(r.Input) > 0) && u.Role != events.RoleAdmin:
		return fail(events.CodeForbidden, "to type on the console of a machine needs the role %s; %s has %s", events.RoleAdmin, u.Name, u.Role)
	case len(r.Input) > wire.MaxTyped:
		return fail(events.CodeInvalid, "field \"input\": want at most %d bytes", wire.MaxTyped)
	case r.Session == "":
		return s.openConsole(ctx, u, r)
	}
	if user, _, err := s.cfg.Serial.Of(r.Session); err != nil || user != u.Name { // another's is as good as none
		return wire.MachineConsoleAnswer{Session: r.Session, Over: true}
	}
	return s.useConsole(ctx, r)
}

func (s *Service) openConsole(ctx context.Context, u User, r wire.MachineConsoleRequest) any {
	row := s.cfg.Reader.Get(ctx, u, events.KindMachine, events.ReadRequest{ID: string(r.Machine)})
	if row.Error != nil {
		return wire.MachineConsoleAnswer{Error: row.Error}
	}
	var found struct {
		ID  events.MachineID `json:"id"`
		BMC *string          `json:"bmc_address"`
	}
	o := refusal(events.CodeUnavailable, "the machine could not be looked up")
	if len(row.Items) != 1 || json.Unmarshal(row.Items[0], &found) != nil {
		return wire.MachineConsoleAnswer{Error: &o}
	}
	if found.BMC == nil {
		o = refusal(events.CodeConflict, "the machine has no BMC: its console cannot be reached")
		return wire.MachineConsoleAnswer{Error: &o}
	}
	session, err := s.cfg.Serial.Open(ctx, found.ID, u.Name, r.Write)
	if err != nil {
		o = refusal(events.CodeConflict, "%v", err)
		return wire.MachineConsoleAnswer{Error: &o}
	}
	return wire.MachineConsoleAnswer{Session: session}
}

func (s *Service) useConsole(ctx context.Context, r wire.MachineConsoleRequest) any {
	answer := wire.MachineConsoleAnswer{Session: r.Session, Next: r.After}
	var err error
	switch {
	case r.Close:
		s.cfg.Serial.Close(r.Session)
		answer.Over = true
	case len(r.Input) > 0:
		err = s.cfg.Serial.Type(ctx, r.Session, r.Input)
	default:
		waiting, cancel := context.WithTimeout(ctx, consoleWait)
		defer cancel()
		answer.Data, answer.Next, answer.Over, err = s.cfg.Serial.Read(waiting, r.Session, r.After)
	}
	if err != nil {
		o := refusal(events.CodeConflict, "%v", err)
		answer.Error = &o
	}
	return answer
}
