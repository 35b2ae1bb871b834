package verifier_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/host"
	"cloudengine/workers/workertest"
)

// agent is a modelled host with the loop and the reports of the real agent. Frozen, it answers and does nothing.
type agent struct {
	r       *rig
	name    string
	id      events.MachineID
	boot    string
	tools   *workertest.Host
	worker  *host.Worker
	wishes  *workers.Wishes
	loop    *workers.Loop[host.Observed]
	counter uint64
	stop    func()

	mu    sync.Mutex
	model workertest.Machine // shares its maps with the host
}

const hostMiB = 1024

// newAgent boots a machine: its boot files are served, it enrols, follows its documents and reports.
func newAgent(r *rig, name string) *agent {
	r.t.Helper()
	a := &agent{r: r, name: name, id: events.MachineID(r.ids[name]), boot: uuid.NewString(), tools: workertest.NewHost(hostMiB)}
	a.tools.Save = func(m workertest.Machine) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.model = m
		return nil
	}
	must(r.t, a.tools.Write(context.Background(), "/tool", "")) // so that the model is known
	token := strings.Repeat("0", 62) + fmt.Sprintf("%02x", len(r.hosts)+1)
	r.as(commands.ActorNetboot, "machine.report_boot_served", commands.BootServed{Machine: a.id, TokenSHA256: token, MAC: "52:54:00:00:00:01", Image: "image"})
	capacity := events.Capacity{AllocatableMiB: hostMiB, PCPUs: 4, XenVersion: "4.17", Types: []string{"pv", "pvh"}}
	enrolled := r.as(commands.MachineActor(a.id), "machine.enrol", commands.Enrolment{
		Machine: a.id, TokenSHA256: token, Boot: a.boot, Key: newKey(r.t), Image: "image", Inventory: events.Inventory{CPUs: 4, MemoryMiB: 2048, Capacity: &capacity},
	})
	if enrolled.Outcome.Status != events.Accepted {
		r.t.Fatalf("enrol %s: %+v", name, enrolled.Outcome)
	}
	a.wishes = workers.NewWishes(a.id, a.boot)
	a.thaw()
	r.eventually(name+" is ready", func() (bool, string) {
		var ready bool
		err := r.db.DB.QueryRow("SELECT ready FROM hosts WHERE id = ?", string(a.id)).Scan(&ready)
		return ready, fmt.Sprint(err)
	})
	return a
}

// thaw starts the loop, as an agent that was started again.
func (a *agent) thaw() {
	quiet := slog.New(slog.DiscardHandler)
	a.worker = &host.Worker{Boot: a.boot, Tools: a.tools, Store: a.tools, Blobs: workertest.Blobs{}}
	reporter := &workers.Reporter{
		Machine: a.id, Boot: a.boot, Next: func() (uint64, error) { a.counter++; return a.counter, nil }, Send: a.send, Log: quiet,
		Drain: func() { a.loop.Drain() }, Forgotten: a.worker.Unanswered,
		Answered: func(e []events.DomainEnded) { a.worker.Answered(e); a.loop.Wake() },
	}
	a.loop = workers.NewLoop(a.worker, a.wishes, workers.Options{Log: quiet, Publish: reporter.Offer, Interval: 20 * time.Millisecond, Retry: 10 * time.Millisecond,
		Report: func(ref events.Ref) events.Ref {
			if ref.Kind == document.KindDomain {
				ref.Kind = events.KindVM
			}
			return ref
		}})
	reporter.Complete()
	stops := []func(){a.r.run(a.loop.Run), a.r.run(reporter.Run), a.r.run(a.follow)}
	a.stop = func() {
		for _, s := range stops {
			s()
		}
	}
}

// freeze stops the loop: nothing is mended or reported, and questions are still answered.
func (a *agent) freeze() { a.stop() }

func (a *agent) follow(ctx context.Context) error {
	c, err := a.r.plane.JS.OrderedConsumer(ctx, events.StreamDesired, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{events.DesiredSubject(a.id, "*", "*")}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return err
	}
	messages, err := c.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		if d, err := document.Decode(m.Data()); err == nil {
			if _, err := a.loop.Offer(d); err != nil {
				return err
			}
		}
	}
}

func (a *agent) send(ctx context.Context, _ uint64, body []byte) (events.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return a.r.plane.Dispatch.Submit(ctx, commands.Command{Intent: events.IntentID(uuid.Must(uuid.NewV7()).String()), Actor: commands.MachineActor(a.id),
		Kind: events.KindMachine, Verb: "report", Args: json.RawMessage(body)}, false)
}

// inspect answers as noded does.
func (a *agent) inspect(ctx context.Context) wire.InspectAnswer {
	ans := wire.InspectAnswer{Host: a.id, Boot: a.boot}
	busy := a.loop.Busy()
	seen, err := a.worker.Inspect(ctx)
	if err != nil {
		ans.Error = &events.Outcome{Status: events.Refused, Code: events.CodeUnavailable, Message: err.Error()}
		return ans
	}
	ans.Domains = seen.Domains
	ans.Whole = &wire.Whole{Stamps: seen.Stamps, Busy: busy, Image: "image"}
	for _, d := range a.wishes.All() {
		ans.Whole.Documents = append(ans.Whole.Documents, events.DocumentReport{Kind: d.Kind, ID: d.ID, Generation: d.Generation})
	}
	return ans
}

// guest gives the domain of a VM in the model, to be changed by hand.
func (a *agent) guest(vm string) *workertest.Guest {
	a.r.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.model.Guests {
		if g.UUID == a.r.ids[vm] {
			return g
		}
	}
	a.r.t.Fatalf("%s has no domain of %s", a.name, vm)
	return nil
}

// stamp changes one node of the stamp of a VM's domain, and gives what it was.
func (a *agent) stamp(vm, node, value string) (was string) {
	a.r.t.Helper()
	path := host.StampRoot + "/" + strconv.Itoa(a.guest(vm).DomID) + "/" + node
	was, err := a.tools.Read(context.Background(), path)
	must(a.r.t, err)
	must(a.r.t, a.tools.Write(context.Background(), path, value))
	return was
}

// byHand makes a domain as a person at the host would, with or without a stamp.
func (a *agent) byHand(id, stampVM, epoch string) (domid int) {
	a.r.t.Helper()
	ctx := context.Background()
	must(a.r.t, a.tools.Create(ctx, host.Config{Name: "byhand-" + id[:8], UUID: id, MemoryMiB: 16, VCPUs: 1}))
	for _, g := range a.model.Guests {
		if g.UUID == id {
			domid = max(domid, g.DomID)
		}
	}
	must(a.r.t, a.tools.Act(ctx, host.ActUnpause, domid))
	if stampVM == "" {
		return domid
	}
	for _, n := range [][2]string{{"vm", stampVM}, {"epoch", epoch}, {"boot", a.boot}, {"restarts", "0"}, {"uuid", id}} {
		must(a.r.t, a.tools.Write(ctx, host.StampRoot+"/"+strconv.Itoa(domid)+"/"+n[0], n[1]))
	}
	return domid
}

// forget removes the stamp of a domain.
func (a *agent) forget(domid int) {
	a.r.t.Helper()
	must(a.r.t, a.tools.Remove(context.Background(), host.StampRoot+"/"+strconv.Itoa(domid)))
}

// renumber gives a domain another id, with its stamp.
func (a *agent) renumber(from, to int) {
	a.r.t.Helper()
	ctx := context.Background()
	for _, n := range []string{"vm", "epoch", "boot", "restarts", "uuid"} {
		v, err := a.tools.Read(ctx, host.StampRoot+"/"+strconv.Itoa(from)+"/"+n)
		must(a.r.t, err)
		must(a.r.t, a.tools.Write(ctx, host.StampRoot+"/"+strconv.Itoa(to)+"/"+n, v))
	}
	a.forget(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.model.Guests[from]
	g.DomID = to
	delete(a.model.Guests, from)
	a.model.Guests[to] = g
}
