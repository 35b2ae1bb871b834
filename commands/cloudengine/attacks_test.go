package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// machineRow is what the administrator reads of a machine.
type machineRow struct{ Name, State, Boot, Image string }

func (a *agent) row() machineRow {
	a.c.t.Helper()
	found, err := a.c.admin.Verify(a.c.t.Context())
	if err != nil || len(found.Broken) > 0 {
		a.c.t.Fatalf("the log: %q, %v", found.Broken, err)
	}
	items, _, err := a.c.admin.List(a.c.t.Context(), events.KindMachine, events.ReadRequest{Filter: map[string]string{"id": string(a.id)}, WaitFor: found.Decisions})
	if err != nil || len(items) != 1 {
		a.c.t.Fatalf("%d rows, %v", len(items), err)
	}
	var r machineRow
	if err := json.Unmarshal(items[0], &r); err != nil {
		a.c.t.Fatal(err)
	}
	return r
}

// up enrols a boot and gives its connection.
func (a *agent) up(boot string, opts ...nats.Option) *nats.Conn {
	a.c.t.Helper()
	pair := newPair(a.c.t)
	if answer, err := a.enrol(a.file.Token, boot, pair); err != nil || answer.Outcome.Status != events.Accepted {
		a.c.t.Fatalf("enrol: %+v, %v", answer.Outcome, err)
	}
	nc, err := a.asMachine("nats://"+a.c.node.bus, pair, opts...)
	if err != nil {
		a.c.t.Fatal(err)
	}
	a.c.t.Cleanup(nc.Close)
	return nc
}

// TestBootTokens reuses a token, an old one, a guessed one and another machine's, and the key of a boot that is over.
func TestBootTokens(t *testing.T) {
	c := newCloud(t, "--silence", "1h")
	a, b := c.machine("host1"), c.machine("host2")
	stolen, boot, mine := a.file.Token, uuid.NewString(), newPair(t)
	first, err := a.enrol(stolen, boot, mine)
	if err != nil || first.Outcome.Status != events.Accepted {
		t.Fatalf("enrol: %+v, %v", first.Outcome, err)
	}
	again, err := a.enrol(stolen, boot, mine) // its answer may have been lost
	if err != nil || again.Outcome.Status == events.Refused || again.Number > first.Number {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	nc, err := a.asMachine("nats://"+c.node.bus, mine)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	before := a.row()
	for name, try := range map[string]func() (events.Answer, error){
		"another key":        func() (events.Answer, error) { return a.enrol(stolen, boot, newPair(t)) },
		"another boot":       func() (events.Answer, error) { return a.enrol(stolen, uuid.NewString(), newPair(t)) },
		"another's token":    func() (events.Answer, error) { return answerOnce(b, stolen) },
		"a guess":            func() (events.Answer, error) { return answerOnce(a, strings.Repeat("0", len(stolen))) },
		"the digest":         func() (events.Answer, error) { return answerOnce(a, fmt.Sprintf("%064x", 1)) },
		"another's, as mine": func() (events.Answer, error) { return answerOnce(a, b.file.Token) },
	} {
		if answer, err := try(); err == nil && answer.Outcome.Status != events.Refused {
			t.Errorf("%s: %+v", name, answer)
		}
	}
	if now := a.row(); now != before {
		t.Errorf("the machine was %+v, is %+v", before, now)
	}
	if o := a.report(nc, events.Report{Machine: a.id, Boot: boot, Counter: 1, Complete: true}).Outcome; o.Status == events.Refused {
		t.Errorf("the true machine is not heard any more: %+v", o)
	}
	// A new boot: the old one's connection ends, its key and its token are worth nothing, and its reports are nobody's.
	ended := make(chan struct{})
	old, err := a.asMachine("nats://"+c.node.bus, mine, nats.ClosedHandler(func(*nats.Conn) { close(ended) }))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	a.boot()
	next := uuid.NewString()
	a.up(next)
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the old boot's connection lives on")
	}
	if nc, err := a.asMachine("nats://"+c.node.bus, mine); err == nil {
		nc.Close()
		t.Error("the old boot's key is let in")
	}
	if _, err := answerOnce(a, stolen); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the old boot's token: %v", err)
	}
	if now := a.row(); now.Boot != next {
		t.Errorf("the machine is %+v", now)
	}
}

// answerOnce tries a token that is not expected to be good.
func answerOnce(a *agent, token string) (answer events.Answer, err error) {
	public, err := newPair(a.c.t).PublicKey()
	if err != nil {
		return answer, err
	}
	return answer, a.enrolOnce(token, uuid.NewString(), public, &answer)
}

// TestReportsOfAnother has a machine report in another's name, replay what it said, and lie about VMs that it does not run.
func TestReportsOfAnother(t *testing.T) {
	c := newCloud(t, "--silence", "1h")
	ids := c.furnish()
	eve := c.machine("eve")
	boot := uuid.NewString()
	nc := eve.up(boot)
	eve.report(nc, events.Report{Machine: eve.id, Boot: boot, Counter: 10, Complete: true})
	before := c.rows()
	vm := events.VMID(ids["VMID"])
	epoch := events.Epoch{Term: 1, Counter: 1}
	for name, r := range map[string]events.Report{
		"as another machine": {Machine: events.MachineID(ids["MachineID"]), Boot: boot, Counter: 11, Complete: true},
		"of another boot":    {Machine: eve.id, Boot: uuid.NewString(), Counter: 12, Complete: true},
		"replayed":           {Machine: eve.id, Boot: boot, Counter: 3, Complete: true, Capacity: &events.Capacity{AllocatableMiB: 1 << 20, PCPUs: 4, XenVersion: "x", Types: []string{"pv"}}},
		"another's VM ended": {Machine: eve.id, Boot: boot, Counter: 13, Ended: []events.DomainEnded{{VM: vm, Epoch: epoch, How: events.EndedDestroyed}}},
		"another's VM is mine": {Machine: eve.id, Boot: boot, Counter: 14, Domains: []events.DomainReport{{UUID: string(vm), DomID: 4, Stamped: true, VM: vm, Epoch: epoch, State: events.DomainRunning,
			MemoryMiB: 64, VCPUs: 1}}},
	} {
		if o := eve.report(nc, r).Outcome; o.Status != events.Refused {
			t.Errorf("%s: %+v", name, o)
		}
	}
	c.unchanged(before)
	for _, subject := range []string{"rep." + ids["MachineID"] + ".state", "rep." + ids["MachineID"] + ".enrol", "tel." + ids["MachineID"] + ".alive"} {
		if m, err := nc.Request(subject, []byte(`{}`), 200*time.Millisecond); err == nil {
			t.Errorf("%s is answered %s", subject, m.Data)
		}
	}
	c.unchanged(before)
}

// TestRevocation takes access back while it is used, on three servers: connections end and requests are refused within seconds.
func TestRevocation(t *testing.T) {
	c := newThree(t)
	key, id := c.user("ann", events.RoleOperate, "")
	c.user("bob", events.RoleOperate, "")
	m := c.machine("host1")
	pair := newPair(t)
	if answer, err := m.enrol(m.file.Token, uuid.NewString(), pair); err != nil || answer.Outcome.Status != events.Accepted {
		t.Fatalf("enrol: %+v, %v", answer.Outcome, err)
	}
	var ends []chan time.Time
	mark := func() nats.Option {
		end := make(chan time.Time, 1)
		ends = append(ends, end)
		return nats.ClosedHandler(func(*nats.Conn) { end <- time.Now() })
	}
	var users []*nats.Conn
	for _, n := range c.nodes {
		users = append(users, c.on(n, key, mark()))
		nc, err := m.asMachine("nats://"+n.bus, pair, mark())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
	}
	bob := c.on(c.nodes[1], c.node.data+"/bob.nk")
	c.do(events.KindUser, "revoke", map[string]any{"user": id})
	c.do(events.KindMachine, "remove", map[string]any{"machine": string(m.id)})
	began := time.Now()
	for i, end := range ends {
		select {
		case at := <-end:
			t.Logf("connection %d has ended after %.2f s", i, at.Sub(began).Seconds())
		case <-time.After(time.Until(began.Add(20 * time.Second))):
			t.Errorf("connection %d (of %d servers, user and machine in turn) lives on after 20 s", i, len(c.nodes))
		}
	}
	for i, n := range c.nodes {
		if users[i].IsConnected() {
			t.Errorf("the user is still on %s", n.name)
		}
		if nc, err := c.try(n, key); err == nil {
			nc.Close()
			t.Errorf("the user is let in again on %s", n.name)
		}
		if nc, err := m.asMachine("nats://"+n.bus, pair); err == nil {
			nc.Close()
			t.Errorf("the machine is let in again on %s", n.name)
		}
		if nc, err := m.dial("nats://"+n.bus, nats.UserInfo(events.EnrolUser, string(m.id)+"."+m.file.Token)); err == nil {
			nc.Close()
			t.Errorf("the machine's token is let in on %s", n.name)
		}
	}
	if !bob.IsConnected() || bob.Statistics.Reconnects > 0 {
		t.Error("another user was disconnected too")
	}
}

// newThree starts three servers; the first has boot files.
func newThree(t *testing.T) *cloud {
	t.Helper()
	args := threeArgs(t)
	image := t.TempDir()
	bareImage(t, image)
	c := &cloud{t: t}
	for i, a := range args {
		if i == 0 {
			a = append(a, "--image", image, "--netboot-any-source")
		}
		n := newNode(t, fmt.Sprintf("s%d", i+1), a...)
		n.start(t)
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		n.ready(t)
	}
	c.node = c.nodes[0]
	for _, n := range c.nodes {
		if nc, err := c.try(n, n.data+"/"+adminKeyFile); err == nil {
			nc.Close()
			c.admin = c.connect(n.data + "/" + adminKeyFile)
			break
		}
	}
	if c.admin == nil {
		t.Fatal("no administrator is let in")
	}
	return c
}

// on connects a user to one server, without going to another.
func (c *cloud) on(n *node, keyFile string, opts ...nats.Option) *nats.Conn {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; { // it may not have heard of the user yet
		nc, err := c.try(n, keyFile, opts...)
		if err == nil {
			c.t.Cleanup(nc.Close)
			return nc
		}
		if time.Now().After(end) {
			c.t.Fatal(err)
		}
	}
}

func (c *cloud) try(n *node, keyFile string, opts ...nats.Option) (*nats.Conn, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	u, err := client.Connect(ctx, "nats://"+n.bus, keyFile, append(opts, nats.NoReconnect())...)
	if err != nil {
		return nil, err
	}
	return u.Conn(), nil
}
