package api

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// oneConsole is a machine's console that prints what is typed.
type oneConsole struct {
	user string
	data []byte
}

func (o *oneConsole) Open(_ context.Context, m events.MachineID, user string, _ bool) (string, error) {
	if o.user != "" {
		return "", errors.New("it is open, by " + o.user)
	}
	o.user = user
	return "s1", nil
}

func (o *oneConsole) Read(_ context.Context, _ string, from uint64) ([]byte, uint64, bool, error) {
	return o.data[from:], uint64(len(o.data)), false, nil
}

func (o *oneConsole) Type(_ context.Context, _ string, text []byte) error {
	o.data = append(o.data, text...)
	return nil
}

func (o *oneConsole) Close(string) { o.user = "" }

func (o *oneConsole) Of(session string) (string, events.MachineID, error) {
	if session != "s1" || o.user == "" {
		return "", "", errors.New("there is none")
	}
	return o.user, "m1", nil
}

// TestMachineConsole: operators read, administrators type, and nobody goes on with another's.
func TestMachineConsole(t *testing.T) {
	s, _ := service(t)
	port := &oneConsole{}
	s.cfg.Serial = port
	s.cfg.Reader = rows{"m1": {"", `{"id":"m1","bmc_address":"10.0.0.1:623"}`}, "bare": {"", `{"id":"bare","bmc_address":null}`}}
	s.cfg.Users = people{"admin": {"admin", events.RoleAdmin, ""}, "op": {"op", events.RoleOperate, ""}, "ann": {"ann", events.RoleAdmin, "acc"}, "guest": {"guest", events.RoleRead, ""}}
	ask := func(user string, r wire.MachineConsoleRequest) wire.MachineConsoleAnswer {
		t.Helper()
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return s.machineConsole(t.Context(), &nats.Msg{Subject: "console." + user + ".machine", Data: body}).(wire.MachineConsoleAnswer)
	}
	for name, c := range map[string]struct {
		user string
		r    wire.MachineConsoleRequest
		code string
	}{
		"reader":       {"guest", wire.MachineConsoleRequest{Machine: "m1"}, events.CodeForbidden},
		"account":      {"ann", wire.MachineConsoleRequest{Machine: "m1"}, events.CodeForbidden},
		"nobody":       {"eve", wire.MachineConsoleRequest{Machine: "m1"}, events.CodeUnauthorized},
		"op_types":     {"op", wire.MachineConsoleRequest{Machine: "m1", Write: true}, events.CodeForbidden},
		"no_bmc":       {"op", wire.MachineConsoleRequest{Machine: "bare"}, events.CodeConflict},
		"no_machine":   {"op", wire.MachineConsoleRequest{Machine: "m2"}, events.CodeNotFound},
		"too_much":     {"admin", wire.MachineConsoleRequest{Session: "s1", Input: make([]byte, wire.MaxTyped+1)}, events.CodeInvalid},
		"op_goes_on":   {"op", wire.MachineConsoleRequest{Session: "s1", Input: []byte("x")}, events.CodeForbidden},
		"none_is_open": {"op", wire.MachineConsoleRequest{Session: "s1"}, ""},
	} {
		a := ask(c.user, c.r)
		if code := ""; a.Error != nil && a.Error.Code != c.code || a.Error == nil && (code != c.code || !a.Over) {
			t.Errorf("%s: got %+v, %+v; want %s", name, a, a.Error, c.code)
		}
	}
	open := ask("admin", wire.MachineConsoleRequest{Machine: "m1", Write: true})
	if open.Error != nil || open.Session != "s1" {
		t.Fatalf("opened %+v", open)
	}
	if a := ask("op", wire.MachineConsoleRequest{Session: "s1"}); !a.Over || len(a.Data) > 0 {
		t.Errorf("another's console was read: %+v", a)
	}
	if a := ask("op", wire.MachineConsoleRequest{Machine: "m1"}); a.Error == nil || a.Error.Code != events.CodeConflict {
		t.Errorf("a second one was opened: %+v", a)
	}
	if a := ask("admin", wire.MachineConsoleRequest{Session: "s1", Input: []byte("ls\r")}); a.Error != nil {
		t.Errorf("typing: %+v", a.Error)
	}
	if a := ask("admin", wire.MachineConsoleRequest{Session: "s1", After: 1}); string(a.Data) != "s\r" || a.Next != 3 || a.Over {
		t.Errorf("read %+v", a)
	}
	if a := ask("admin", wire.MachineConsoleRequest{Session: "s1", Close: true}); !a.Over || port.user != "" {
		t.Errorf("closing: %+v", a)
	}
}
