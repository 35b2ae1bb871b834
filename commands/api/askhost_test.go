package api

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/events/broker"
)

// TestAskHostAsksWhatItWasAsked: each question reaches the machine as it is, and nothing else does.
func TestAskHostAsksWhatItWasAsked(t *testing.T) {
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	bus, err := srv.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	const machine = events.MachineID(anID)
	asked := make(chan []byte, 1)
	if _, err := bus.Subscribe(events.MachineRequestSubject(machine, "inspect"), func(m *nats.Msg) {
		asked <- m.Data
		_ = m.Respond([]byte(`{"boot":"b","networks":{}}`))
	}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []wire.InspectRequest{{}, {Usage: true}, {All: true}, {Storage: true}, {Networks: true}} {
		q.Host = "host1"
		a, err := AskHost(t.Context(), bus, machine, q)
		if err != nil || a.Host != machine || a.Boot != "b" || a.Networks == nil {
			t.Fatalf("%+v: answer %+v, %v", q, a, err)
		}
		var got wire.InspectRequest
		if err := json.Unmarshal(<-asked, &got); err != nil {
			t.Fatal(err)
		}
		if q.Host = ""; got != q {
			t.Errorf("the machine was asked %+v, want %+v", got, q)
		}
	}
}
