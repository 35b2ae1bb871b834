package scenarios

import (
	"fmt"
	"testing"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"
)

// TestHostCrashes: the control domain's kernel panics, and the machine boots again by itself. Its new boot, which we served, is the
// proof that the VM ended: it is granted again, and the machine has an empty list.
func TestHostCrashes(t *testing.T) {
	before := row(t, events.KindVM, "web1")
	host := text(before, "host_name")
	boot, last := text(row(t, events.KindHost, host), "boot"), lastFact(t)
	if err := shared.Type(t.Context(), host, "echo c > /proc/sysrq-trigger"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 8*time.Minute, "the host has booted again", func() (bool, string) {
		r := row(t, events.KindHost, host)
		return text(r, "boot") != boot && text(r, "ready") == "true" && text(r, "silent") == "false", fmt.Sprint(r)
	})
	eventually(t, 3*time.Minute, "runs again", func() (bool, string) {
		r := row(t, events.KindVM, "web1")
		return text(r, "state") == "running" && text(r, "epoch") != text(before, "epoch"), fmt.Sprint(r)
	})
	var proofs []string
	followFor(t, client.Feed{Kind: events.KindVM, ID: text(before, "id"), After: last}, func(_ uint64, m events.FeedMessage) {
		if e, ok := m.Event.Data.(events.VMGrantEnded); ok {
			proofs = append(proofs, e.Proof)
		}
	})
	if fmt.Sprint(proofs) != "["+events.ProofNewBoot+"]" {
		t.Fatalf("its grant ended by %q", proofs)
	}
	now := text(row(t, events.KindVM, "web1"), "host_name")
	one(t, now, "web1")
	if d := inspect(t, host); now != host && len(d) != 0 {
		t.Fatalf("after a new boot there are domains: %+v", d)
	}
	agree(t, "web1")
	verified(t)
}
