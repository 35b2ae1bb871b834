package alerts

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

func message(number uint64, kind events.Kind, p events.Payload) events.FeedMessage {
	return events.FeedMessage{Number: number, Index: 1, Time: time.Now().UTC().Format(time.RFC3339Nano), Actor: "ada", Reason: "because", Event: events.New(kind, "x1", 1, p)}
}

func TestRaisedAndOver(t *testing.T) {
	for _, c := range []struct {
		kind events.Kind
		data events.Payload
		want string // + raises, ! raises until it is acknowledged, - ends
	}{
		{events.KindLog, events.LogOpened{Term: 1, Cause: "created"}, ""},
		{events.KindLog, events.LogOpened{Term: 2, Cause: "restored"}, "!term/log/x1/2"},
		{events.KindMachine, events.MachineSilent{Boot: "b"}, "+silent/machine/x1"},
		{events.KindMachine, events.MachineReturned{Boot: "b"}, "-silent/machine/x1"},
		{events.KindMachine, events.MachineEnrolled{Boot: "b"}, "-silent/machine/x1"},
		{events.KindMachine, events.MachineRemoved{}, "-silent/machine/x1 -bmc/machine/x1"},
		{events.KindMachine, events.MachineContradicted{Code: "two_machines"}, "!contradiction/machine/x1/two_machines"},
		{events.KindMachine, events.MachineBMCChecked{Healthy: true}, "-bmc/machine/x1"},
		{events.KindMachine, events.MachineBMCChecked{Detail: "no answer"}, "+bmc/machine/x1"},
		{events.KindHost, events.HostOrphanFound{Domain: events.DomainReport{UUID: "u"}}, "+orphan/host/x1/u"},
		{events.KindHost, events.HostOrphanGone{UUID: "u"}, "-orphan/host/x1/u"},
		{events.KindVM, events.VMStaleDomainFound{}, "+stale_domain/vm/x1"},
		{events.KindVM, events.VMStaleDomainEnded{}, "-stale_domain/vm/x1"},
		{events.KindVM, events.VMBecameUnknown{}, "+unknown/vm/x1"},
		{events.KindVM, events.VMBecameKnown{}, "-unknown/vm/x1"},
		{events.KindVM, events.VMGrantEnded{Proof: events.ProofPowerOff}, "-unknown/vm/x1"},
		{events.KindVM, events.VMGrantEnded{Proof: events.ProofOverride}, "-unknown/vm/x1 !override/vm/x1/0.0"},
		{events.KindVM, events.VMDeleted{}, "-unknown/vm/x1 -stale_domain/vm/x1"},
		{events.KindVM, events.VMCreated{}, ""},
		{events.KindArray, events.ArrayChecked{Complete: true, Mismatches: 128}, "+mismatch/array/x1"},
		{events.KindArray, events.ArrayChecked{Complete: true}, "-mismatch/array/x1"},
		{events.KindArray, events.ArrayChecked{Mismatches: 128}, ""},
		{events.KindArray, events.ArrayDeleted{}, "-mismatch/array/x1"},
		{events.KindVM, events.Unknown{Type: "vm.future.v9"}, ""},
	} {
		m := message(7, c.kind, c.data)
		var got []string
		for _, x := range Of(m) {
			mark := map[bool]string{true: "+", false: "-"}[x.Raise]
			if x.Stays {
				mark = "!"
			}
			got = append(got, mark+x.Key())
			if x.Number != 7 || x.Index != 1 || x.Time.IsZero() || x.Message == "" {
				t.Errorf("%s: %+v", c.data.EventType(), x)
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s %+v: got %q, want %q", c.data.EventType(), c.data, text, c.want)
		}
		subject := "feed." + string(c.kind) + ".*." + strings.ReplaceAll(c.data.EventType(), ".", "_")
		if len(got) > 0 && !slices.Contains(strings.Split(Subjects, ","), subject) {
			t.Errorf("%s says something, and %s is not among the filters", c.data.EventType(), subject)
		}
	}
}
