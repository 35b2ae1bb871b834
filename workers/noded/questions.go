package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"cloudengine/events"
	"cloudengine/workers"
	"cloudengine/workers/host"
)

// Bounds of a console answer, in bytes.
const (
	consoleDefault = 16 << 10
	consoleMost    = 64 << 10
)

// consoleDir is where xenconsoled writes (workers/boot starts it).
const consoleDir = "/var/log/xen/console"

// consoleRequest is the body of ask.<machine>.console.
type consoleRequest struct {
	VM    events.VMID `json:"vm"`
	Bytes int         `json:"bytes,omitempty"` // from the end; 0 = 16384
}

// consoleAnswer is the reply.
type consoleAnswer struct {
	VM    events.VMID      `json:"vm"`
	Host  events.MachineID `json:"host"`
	Data  []byte           `json:"data,omitempty"` // base64 in JSON
	Error *events.Outcome  `json:"error,omitempty"`
}

// planAnswer is the reply to ask.<machine>.plan: what the agent would do now, and as people read it.
type planAnswer struct {
	Plans []workers.Plan  `json:"plans"`
	Text  string          `json:"text"`
	Error *events.Outcome `json:"error,omitempty"`
}

// answerQuestions answers what the control plane asks of a live machine.
func (b *bus) answerQuestions(nc *nats.Conn) error {
	for what, answer := range map[string]func([]byte) any{"console": b.a.console, "plan": b.a.plan, "inspect": b.a.inspect} {
		_, err := nc.Subscribe(events.MachineRequestSubject(b.a.machine, what), func(m *nats.Msg) {
			body, err := json.Marshal(answer(m.Data))
			if err == nil {
				err = m.Respond(body)
			}
			if err != nil {
				b.log.Warn("question is not answered", "subject", m.Subject, "err", err)
			}
		})
		if err != nil {
			return fmt.Errorf("listen for questions: %w", err)
		}
	}
	return nil
}

func refused(code, format string, args ...any) *events.Outcome {
	return &events.Outcome{Status: events.Refused, Code: code, Message: fmt.Sprintf(format, args...)}
}

// console gives the end of what a VM's domain printed, over its re-creations in this boot.
func (a *agent) console(body []byte) any {
	var q consoleRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return consoleAnswer{Host: a.machine, Error: refused(events.CodeInvalid, "read request: %v", err)}
	}
	ans := consoleAnswer{VM: q.VM, Host: a.machine}
	if q.Bytes <= 0 {
		q.Bytes = consoleDefault
	}
	name, ok := a.consoleName(q.VM)
	if !ok {
		ans.Error = refused(events.CodeNotFound, "nothing in this boot is known of VM %.64s", q.VM)
		return ans
	}
	text, err := a.edges.console(name, int64(min(q.Bytes, consoleMost)))
	if err != nil {
		ans.Error = refused(events.CodeUnavailable, "%v", err)
	}
	ans.Data = text
	return ans
}

// consoleTail gives what is sent with a VM's end.
func (a *agent) consoleTail(vm events.VMID) []byte {
	name, ok := a.consoleName(vm)
	if !ok {
		return nil
	}
	text, err := a.edges.console(name, events.MaxConsoleTail)
	if err != nil {
		a.log.Warn("the end of a console is not read", "vm", vm, "err", err)
	}
	return text
}

// consoleName finds under what name a VM's domain printed. A document that wants no domain does not name it, its console's file does.
func (a *agent) consoleName(vm events.VMID) (string, bool) {
	wishes, _ := host.Decode(a.wishes.All())
	for _, w := range wishes {
		if w.VM != vm {
			continue
		}
		if w.Adopt != "" {
			return a.nameOf(w.Adopt, host.DomainName(vm, w.Name)), true
		}
		if w.Name != "" {
			return host.DomainName(vm, w.Name), true
		}
		files, err := filepath.Glob(consoleDir + "/guest-" + host.DomainName(vm, "") + "*.log")
		if err != nil || len(files) == 0 {
			return host.DomainName(vm, ""), true // it printed nothing
		}
		base := filepath.Base(files[len(files)-1])
		return strings.TrimSuffix(strings.TrimPrefix(base, "guest-"), ".log"), true
	}
	return "", false
}

// nameOf finds the name of an adopted domain, which was not named by us.
func (a *agent) nameOf(uuid, otherwise string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	all, err := a.edges.tools.List(ctx)
	if err != nil {
		return otherwise
	}
	for _, d := range all {
		if d.UUID == uuid && filepath.Base(d.Name) == d.Name {
			return d.Name
		}
	}
	return otherwise
}

// plan is the dry run: the very plan that the loop would carry out.
func (a *agent) plan([]byte) any {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	plans, err := a.loop.DryRun(ctx)
	if err != nil {
		return planAnswer{Error: refused(events.CodeUnavailable, "%v", err)}
	}
	return planAnswer{Plans: plans, Text: workers.Print(plans)}
}
