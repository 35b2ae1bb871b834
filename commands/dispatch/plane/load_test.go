package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"cloudengine/commands"
	"cloudengine/events"
)

// load is many clients that each repeat an intent until it is answered, and remember what they were told.
type load struct {
	t      *testing.T
	urls   string
	option nats.Option
	setup  *nats.Conn

	account, template string
	answered          atomic.Int64
	lastAnswer        atomic.Int64 // Unix nanoseconds
	slowest           atomic.Int64 // longest time between two answers of anyone, since the last reset
	wg                sync.WaitGroup
	stop              context.CancelFunc

	mu   sync.Mutex
	told []events.Answer
}

func newLoad(t *testing.T, urls string, option nats.Option) *load {
	l := &load{t: t, urls: urls, option: option}
	l.setup = l.connect()
	return l
}

// connect makes a client that notices a server that hangs within a second or two.
func (l *load) connect() *nats.Conn {
	nc, err := nats.Connect(l.urls, l.option, nats.CustomInboxPrefix(events.InboxPrefix("admin")), nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(patience), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2), nats.Timeout(time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	must(l.t, err)
	l.t.Cleanup(nc.Close)
	return nc
}

// patience lets a client come back soon after a short outage. While a server reads its log it refuses everyone, and nats.go 1.55
// closes the socket of a refused attempt only when the garbage is collected: 64 clients may not try twenty times a second.
func patience(attempts int) time.Duration {
	return min(50*time.Millisecond<<min(attempts, 5), time.Second)
}

// ask repeats one intent until it is decided, or ctx ends.
func (l *load) ask(ctx context.Context, nc *nats.Conn, subject string, r events.Request) (events.Answer, bool) {
	body, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	for ctx.Err() == nil {
		rctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		m, err := nc.RequestWithContext(rctx, subject, body)
		cancel()
		var a events.Answer
		if err == nil && json.Unmarshal(m.Data, &a) == nil && a.Outcome.Code != events.CodeUnavailable && a.Outcome.Code != events.CodeBusy {
			now := time.Now().UnixNano()
			if gap := now - l.lastAnswer.Swap(now); gap > l.slowest.Load() {
				l.slowest.Store(gap)
			}
			l.answered.Add(1)
			l.mu.Lock()
			l.told = append(l.told, a)
			l.mu.Unlock()
			return a, true
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return events.Answer{}, false
}

func (l *load) must(id events.IntentID, actor, kindVerb string, args any) events.Answer {
	l.t.Helper()
	raw, err := json.Marshal(args)
	must(l.t, err)
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	a, ok := l.ask(ctx, l.setup, "do.admin."+kindVerb, events.Request{ID: id, Args: raw, Correlation: actor})
	if !ok || a.Outcome.Status == events.Refused {
		l.t.Fatalf("%s: answered %v: %+v", kindVerb, ok, a)
	}
	return a
}

// prepare makes an account, a template and two hosts with room for some VMs.
func (l *load) prepare() {
	acc, tmpl := newID(), newID()
	l.account, l.template = string(acc), string(tmpl)
	l.must(acc, "", "account.create", commands.CreateAccount{Name: "demo"})
	l.must(tmpl, "", "template.create", commands.CreateTemplate{Name: "tiny", Type: "kernel", MinMemory: 16,
		Kernel: events.Blob{SHA256: fmt.Sprintf("%064x", 1), Size: 1}})
	for i := range 2 {
		m := newID()
		host, boot, token := events.MachineID(m), uuid.NewString(), fmt.Sprintf("%064x", i+1)
		kp, err := nkeys.CreateUser()
		must(l.t, err)
		key, err := kp.PublicKey()
		must(l.t, err)
		mac := fmt.Sprintf("52:54:00:00:00:%02x", i+1)
		l.must(m, "", "machine.add", commands.AddMachine{Name: fmt.Sprintf("host%d", i), MACs: []string{mac}, Roles: []string{events.RoleHost}})
		l.must(newID(), commands.ActorNetboot, "machine.report_boot_served", commands.BootServed{Machine: host, TokenSHA256: token, MAC: mac, Image: "1"})
		l.must(newID(), commands.MachineActor(host), "machine.enrol", events.Enrol{Machine: host, TokenSHA256: token, Boot: boot, Key: key, Image: "1",
			Inventory: events.Inventory{CPUs: 4, MemoryMiB: 8192, NICs: []events.NIC{{Name: "eth0", MAC: mac}},
				Capacity: &events.Capacity{AllocatableMiB: 6000, PCPUs: 4, XenVersion: "4.17", Types: []string{"pv"}}}})
		l.must(newID(), commands.MachineActor(host), "machine.report", events.Report{Machine: host, Boot: boot, Counter: 1, Complete: true})
	}
}

// run starts the clients. Names are few, so that many intents are refused; hosts are small, so that most VMs find no room.
func (l *load) run(clients int) {
	ctx, stop := context.WithCancel(l.t.Context())
	l.stop = stop
	l.lastAnswer.Store(time.Now().UnixNano())
	for i := range clients {
		nc := l.connect()
		rnd := rand.New(rand.NewPCG(uint64(i), 7))
		l.wg.Go(func() {
			for ctx.Err() == nil {
				l.one(ctx, nc, rnd)
			}
		})
	}
}

func (l *load) one(ctx context.Context, nc *nats.Conn, rnd *rand.Rand) {
	id, name := newID(), fmt.Sprintf("n%d", rnd.IntN(3000))
	if rnd.IntN(4) > 0 {
		raw, _ := json.Marshal(commands.CreateAccount{Name: name}) // strings only
		l.ask(ctx, nc, "do.admin.account.create", events.Request{ID: id, Args: raw})
		return
	}
	raw, _ := json.Marshal(commands.CreateVM{Account: events.AccountID(l.account), Name: name, Type: "pv", VCPUs: 1,
		MemoryMiB: 32 + rnd.IntN(64), Template: events.TemplateID(l.template)}) // strings and numbers only
	if a, ok := l.ask(ctx, nc, "do.admin.vm.create", events.Request{ID: id, Args: raw}); ok && a.Outcome.Status == events.Accepted {
		raw, _ := json.Marshal(commands.StartVM{VM: events.VMID(id)})
		l.ask(ctx, nc, "do.admin.vm.start", events.Request{ID: newID(), Args: raw})
	}
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// verify reads the log from the servers, and compares it with what the clients were told: the chain is whole, every acknowledged outcome
// is stored under its number, no id is decided twice, and no invariant is broken.
func (l *load) verify() {
	l.t.Helper()
	var all []events.Recorded
	var at events.Position
	audit := commands.NewAudit()
	for {
		payload := l.block(at.Seq + 1)
		if len(payload) == 0 {
			break
		}
		b, err := events.DecodeBlock(payload)
		must(l.t, err)
		at, err = at.Next(at.Seq+1, b, events.Digest(payload))
		must(l.t, err)
		for _, r := range b.Recorded() {
			audit.Add(r)
			all = append(all, r)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, stored := 0, 0
	for _, a := range l.told {
		if a.Number == 0 {
			continue
		}
		stored++
		if a.Number > uint64(len(all)) || all[a.Number-1].Intent != a.ID || all[a.Number-1].Outcome != a.Outcome {
			lost++
		}
	}
	if broken := audit.Broken(); lost > 0 || len(broken) > 0 || stored == 0 {
		l.t.Fatalf("%d of %d acknowledged outcomes lost; %d invariants broken: %.5q", lost, stored, len(broken), broken)
	}
	l.t.Logf("%d acknowledged, %d decisions in %d blocks: none lost, none twice, chain whole, %d live grants", stored, len(all), at.Seq, audit.Live())
}

// block asks for one block until a server answers.
func (l *load) block(seq uint64) []byte {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		m, err := l.setup.Request("read.admin.log.get", []byte(strconv.FormatUint(seq, 10)), 2*time.Second)
		if err == nil {
			return m.Data
		}
		time.Sleep(20 * time.Millisecond)
	}
	l.t.Fatalf("block %d cannot be read", seq)
	return nil
}
