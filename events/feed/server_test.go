package feed

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events/broker"
)

// mustBus starts the bus with its streams and connects to it as the control plane does.
func mustBus(t testing.TB) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	s, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return mustConnect(t, s)
}

func mustConnect(t testing.TB, s *broker.Server) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := s.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(30*time.Second)) // the suites do much at once
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}
