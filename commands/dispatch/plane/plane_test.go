package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"cloudengine/commands"
	"cloudengine/commands/dispatch"
	"cloudengine/commands/dispatch/plane"
	"cloudengine/events"
	"cloudengine/events/broker"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T) (string, nats.Option) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	must(t, err)
	pub, err := kp.PublicKey()
	must(t, err)
	return pub, nats.Nkey(pub, kp.Sign)
}

func start(t *testing.T, dir, key string) *plane.Plane {
	t.Helper()
	p, err := plane.Start(t.Context(), plane.Options{
		Bus: broker.Options{Dir: dir}, Dispatch: dispatch.Options{AdminKey: key, Poll: 10 * time.Millisecond},
	}, nil)
	must(t, err)
	waitFor(t, "the dispatcher to decide", p.Dispatch.Active)
	return p
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

func newID() events.IntentID { return events.IntentID(uuid.Must(uuid.NewV7()).String()) }

func submit(t *testing.T, p *plane.Plane, id events.IntentID, verb string, kind events.Kind, args any) events.Answer {
	t.Helper()
	raw, err := json.Marshal(args)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a, err := p.Dispatch.Submit(ctx, commands.Command{Intent: id, Actor: "admin", Kind: kind, Verb: verb, Args: raw}, false)
	must(t, err)
	return a
}

func TestFirstStartThenRestart(t *testing.T) {
	dir := t.TempDir()
	key, _ := newKey(t)
	p := start(t, dir, key)
	id := newID()
	first := submit(t, p, id, "create", events.KindAccount, commands.CreateAccount{Name: "acme"})
	if first.Outcome.Status != events.Accepted || first.Number != 3 { // after log.open and user.create
		t.Fatalf("answer %+v", first)
	}
	must(t, p.Health())
	p.Stop()

	p = start(t, dir, "")
	defer p.Stop()
	again := submit(t, p, id, "create", events.KindAccount, commands.CreateAccount{Name: "acme"})
	if again.Number != first.Number || again.Outcome != first.Outcome {
		t.Fatalf("answer %+v, first %+v", again, first)
	}
	other := submit(t, p, id, "create", events.KindAccount, commands.CreateAccount{Name: "other"})
	if other.Outcome.Code != events.CodeIDReused || other.Number != 0 {
		t.Fatalf("answer %+v", other)
	}
	taken := submit(t, p, newID(), "create", events.KindAccount, commands.CreateAccount{Name: "acme"})
	if taken.Outcome.Code != events.CodeNameTaken || taken.Number != 4 {
		t.Fatalf("answer %+v", taken)
	}
}

func TestRevokedUserIsDisconnected(t *testing.T) {
	adminKey, adminOpt := newKey(t)
	p := start(t, t.TempDir(), adminKey)
	defer p.Stop()
	_, err := nats.Connect(p.Bus.ClientURL(), adminOpt)
	must(t, err)
	key, opt := newKey(t)
	user := newID()
	if a := submit(t, p, user, "create", events.KindUser, commands.CreateUser{Name: "bob", Key: key, Role: events.RoleOperate}); a.Outcome.Status != events.Accepted {
		t.Fatalf("answer %+v", a)
	}
	closed := make(chan struct{})
	_, err = nats.Connect(p.Bus.ClientURL(), opt, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	must(t, err)
	submit(t, p, newID(), "revoke", events.KindUser, commands.RevokeUser{User: events.UserID(user)})
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the revoked user is still connected")
	}
	if _, err := nats.Connect(p.Bus.ClientURL(), opt); err == nil {
		t.Fatal("the revoked user connects again")
	}
}

func TestManyClients(t *testing.T) {
	key, _ := newKey(t)
	p := start(t, t.TempDir(), key)
	defer p.Stop()
	const clients, each = 32, 20
	numbers := make(chan uint64, clients*each)
	for i := range clients {
		go func() {
			for j := range each {
				raw, _ := json.Marshal(commands.CreateAccount{Name: fmt.Sprintf("a-%d-%d", i, j)}) // strings only
				a, err := p.Dispatch.Submit(t.Context(), commands.Command{Intent: newID(), Actor: "admin", Kind: events.KindAccount, Verb: "create", Args: raw}, false)
				if err != nil || a.Outcome.Status != events.Accepted {
					t.Errorf("answer %+v, error %v", a, err)
				}
				numbers <- a.Number
			}
		}()
	}
	seen := map[uint64]bool{}
	for range clients * each {
		n := <-numbers
		if seen[n] {
			t.Fatalf("number %d given twice", n)
		}
		seen[n] = true
	}
	last, err := p.Journal.Last(t.Context())
	must(t, err)
	total := 0
	end, err := p.Journal.Load(t.Context(), events.Position{}, func(_ events.Position, b *events.Block) error { total += len(b.Decisions); return nil })
	must(t, err)
	if total != clients*each+2 || end.Number != uint64(total) || last != end.Seq {
		t.Fatalf("%d decisions, the last %d", total, end.Number)
	}
	t.Logf("%d decisions in %d blocks", total, last)
}
