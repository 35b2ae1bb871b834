package alerts

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
)

func message(kind events.Kind, p events.Payload) events.FeedMessage {
	return events.FeedMessage{Number: 7, Index: 1, Time: "2026-11-22T10:00:00Z", Actor: "ada", Reason: "because", Event: events.New(kind, "x1", 1, p)}
}

func TestLoudAndQuiet(t *testing.T) {
	for _, c := range []struct {
		kind events.Kind
		data events.Payload
		want Severity // "": no alert
	}{
		{events.KindLog, events.LogOpened{Term: 1, Cause: "created"}, ""},
		{events.KindLog, events.LogOpened{Term: 2, Cause: "restored"}, Critical},
		{events.KindMachine, events.MachineSilent{Boot: "b"}, Warning},
		{events.KindMachine, events.MachineReturned{Boot: "b"}, ""},
		{events.KindMachine, events.MachineContradicted{Code: "two_machines"}, Critical},
		{events.KindMachine, events.MachineBMCChecked{Healthy: true}, ""},
		{events.KindMachine, events.MachineBMCChecked{Detail: "no answer"}, Warning},
		{events.KindHost, events.HostOrphanFound{}, Warning},
		{events.KindVM, events.VMStaleDomainFound{}, Critical},
		{events.KindVM, events.VMBecameUnknown{}, Warning},
		{events.KindVM, events.VMGrantEnded{Proof: events.ProofPowerOff}, ""},
		{events.KindVM, events.VMGrantEnded{Proof: events.ProofOverride}, Critical},
		{events.KindVM, events.VMCreated{}, ""},
		{events.KindVM, events.Unknown{Type: "vm.future.v9"}, ""},
	} {
		m := message(c.kind, c.data)
		a, loud := Of(m)
		if loud != (c.want != "") || a.Severity != c.want {
			t.Errorf("%s %+v: got %v %q, want %q", c.data.EventType(), c.data, loud, a.Severity, c.want)
		}
		subject := "feed." + string(c.kind) + ".*." + strings.ReplaceAll(c.data.EventType(), ".", "_")
		if loud && !slices.Contains(strings.Split(Subjects, ","), subject) {
			t.Errorf("%s is an alert, and %s is not among the filters", c.data.EventType(), subject)
		}
	}
}

type sink struct {
	fail   error
	raised []Alert
}

func (s *sink) Raise(_ context.Context, a Alert) error {
	s.raised = append(s.raised, a)
	return s.fail
}

func TestHandlerLogsAndRaises(t *testing.T) {
	var out bytes.Buffer
	good, bad := &sink{}, &sink{fail: errors.New("table is locked")}
	h := Handler(slog.New(slog.NewJSONHandler(&out, nil)), good, bad)
	if err := h(t.Context(), message(events.KindVM, events.VMCreated{})); err != nil || out.Len() > 0 {
		t.Fatalf("a quiet event: %v, %s", err, out.String())
	}
	err := h(t.Context(), message(events.KindVM, events.VMGrantEnded{Proof: events.ProofOverride}))
	if !errors.Is(err, bad.fail) || len(good.raised) != 1 || good.raised[0].Object.ID != "x1" {
		t.Fatalf("got %v, raised %+v", err, good.raised)
	}
	for _, want := range []string{`"msg":"alert"`, `"severity":"critical"`, `"actor":"ada"`, `"reason":"because"`, `"number":7`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log line lacks %s: %s", want, out.String())
		}
	}
}
