package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"cloudengine/events"
	"cloudengine/workers"
)

// consoles sends the end of what a VM's domains printed before the report of its grant's end names it. Until that report is answered the
// logs themselves lie on the host, so an agent that starts again reads them again.
type consoles struct {
	log  *slog.Logger
	read func(vm events.VMID) []byte // the last events.MaxConsoleTail bytes; empty if there is nothing

	mu    sync.Mutex
	tails map[workers.EndKey][]byte
	sent  map[string]bool // by digest
}

// name gives each end that is due the digest of its console. An end of a VM that has a domain still is of an earlier grant: what is in
// the log is that domain's.
func (c *consoles) name(s workers.Snapshot) workers.Snapshot {
	there := map[events.VMID]bool{}
	for _, d := range s.Domains {
		there[d.VM] = true
	}
	last := map[events.VMID]int{}
	for i, e := range s.Ended {
		if j, ok := last[e.VM]; !ok || s.Ended[j].Epoch.Compare(e.Epoch) < 0 {
			last[e.VM] = i
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ended := append([]events.DomainEnded(nil), s.Ended...)
	for vm, i := range last {
		if e := &ended[i]; !there[vm] && e.How != events.EndedAbsent {
			e.Console = blobOf(c.tail(*e))
		}
	}
	s.Ended = ended
	return s
}

// tail reads a console once, so that a report and what it names are the same each time they are sent.
func (c *consoles) tail(e events.DomainEnded) []byte {
	key := workers.KeyOf(e)
	if have, ok := c.tails[key]; ok {
		return have
	}
	text := c.read(e.VM)
	text = text[max(0, len(text)-events.MaxConsoleTail):]
	c.tails[key] = text
	return text
}

func blobOf(text []byte) events.Blob {
	if len(text) == 0 {
		return events.Blob{}
	}
	sum := sha256.Sum256(text)
	return events.Blob{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text))}
}

// answered forgets what was told.
func (c *consoles) answered(ends []events.DomainEnded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range ends {
		delete(c.sent, e.Console.SHA256)
		delete(c.tails, workers.KeyOf(e))
	}
}

// consoleTime bounds the sending of one console. An end is told also if its console cannot be sent: it is more important.
const consoleTime = 3 * time.Second

// send sends the consoles that a report names, each once.
func (c *consoles) send(ctx context.Context, nc *nats.Conn, m events.MachineID, boot string, report []byte) {
	if !bytes.Contains(report, []byte(`"console"`)) {
		return
	}
	var r events.Report
	if err := json.Unmarshal(report, &r); err != nil {
		c.log.Error("read own report", "err", err)
		return
	}
	for _, e := range r.Ended {
		text := c.due(e)
		if len(text) == 0 {
			continue
		}
		body, err := json.Marshal(events.ConsoleTail{Boot: boot, VM: e.VM, Epoch: e.Epoch, Data: text})
		if err == nil {
			_, err = ask(ctx, nc, events.ReportSubject(m, events.ReportConsole), body, consoleTime)
		}
		if err != nil {
			c.log.Warn("the end of a console is not sent", "vm", e.VM, "err", err)
			return // the report is repeated until it is answered, and this with it
		}
		c.mu.Lock()
		c.sent[e.Console.SHA256] = true
		c.mu.Unlock()
	}
}

func (c *consoles) due(e events.DomainEnded) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Console.SHA256 == "" || c.sent[e.Console.SHA256] {
		return nil
	}
	return c.tails[workers.KeyOf(e)]
}
