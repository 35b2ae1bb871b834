package verifier_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections/verify"
	"cloudengine/workers/host"
)

// fault is something that is planted wrong, and what must be found of it. plant gives what takes it back.
type fault struct {
	name     string
	section  string
	check    string
	severity verify.Severity
	plant    func(r *rig) (mend func())
}

const stranger = "ffffffff-0000-4000-8000-00000000000f"

// TestEveryPlantedFaultIsFound: each fault is found under its name, in its section, as bad as it is, with what to do next; before it
// and after it is taken back, nothing is found. Agents are frozen, so that none mends a fault before it is looked at.
func TestEveryPlantedFaultIsFound(t *testing.T) {
	r := newRig(t)
	r.furnish("host1", "host2")
	r.vm("web1", "host1", true)
	r.vm("web2", "host1", true)
	r.vm("web3", "host2", true)
	r.vm("idle", "", false)
	r.do("vm.pause", commands.VMRef{VM: events.VMID(r.ids["web2"])})
	r.eventually("web2 is paused", func() (bool, string) { return r.is("web2", "paused") })
	r.clean()
	for _, h := range r.hosts {
		h.freeze()
	}
	r.clean()
	all := faults()
	if len(all) < 40 {
		t.Fatalf("only %d faults", len(all))
	}
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			r.t = t
			mend := f.plant(r)
			a := r.verify()
			f.judge(t, a)
			if mend != nil {
				mend()
			}
			r.clean()
		})
	}
	t.Run("a block that is not the log's", func(t *testing.T) {
		r.t = t
		_, err := r.plane.JS.Publish(t.Context(), "events", []byte(`{"format":1,"term":1,"first":3,"prev":"no","decisions":[]}`))
		must(t, err)
		fault{section: verify.Log, check: "chain", severity: verify.Critical}.judge(t, r.verify())
	})
}

// judge fails unless the fault is among what was found.
func (f fault) judge(t *testing.T, a wire.CloudVerifyAnswer) {
	t.Helper()
	if a.Clean {
		t.Fatalf("it says that all is well:%s", describe(a))
	}
	hit := false
	for _, x := range a.Findings {
		if x.What == "" || x.Next == "" || x.Kind == "" || x.ID == "" || x.Severity == verify.Settling && x.Moving == "" {
			t.Errorf("a finding that does not help: %+v", x)
		}
		hit = hit || x.Section == f.section && x.Check == f.check && x.Severity == f.severity
	}
	if !hit {
		t.Fatalf("want %s %s in %s, found:%s", f.severity, f.check, f.section, describe(a))
	}
	t.Log(describe(a))
}

func faults() []fault {
	all := append(rowFaults(), documentFaults()...)
	all = append(all, stampFaults()...)
	all = append(all, domainFaults()...)
	return append(append(all, agentFaults()...), fileFaults()...)
}

// inSQL plants by statements, and mends by others.
func inSQL(plant, mend string) func(*rig) func() {
	return func(r *rig) func() {
		conn, err := r.db.DB.Conn(r.t.Context()) // one, for temporary tables
		must(r.t, err)
		run := func(statements string) {
			for s := range strings.SplitSeq(statements, ";") {
				_, err := conn.ExecContext(context.Background(), s)
				must(r.t, err)
			}
		}
		run(plant)
		return func() {
			run(mend)
			must(r.t, conn.Close())
		}
	}
}

func rowFaults() []fault {
	row := func(name, check string, s verify.Severity, plant, mend string) fault {
		return fault{name, verify.Rows, check, s, inSQL(plant, mend)}
	}
	return []fault{
		row("a row changed", "row_changed", verify.Wrong, "UPDATE vms SET wanted = 'other' WHERE name = 'idle'", "UPDATE vms SET wanted = 'stopped' WHERE name = 'idle'"),
		row("an id changed", "row_missing", verify.Wrong, "UPDATE accounts SET id = '"+stranger+"'", "UPDATE accounts SET id = (SELECT account FROM vms LIMIT 1)"),
		row("a row inserted", "row_extra", verify.Wrong, "INSERT INTO secrets VALUES ('"+stranger+"', 'mine', 1, 'f00d', 1, NOW(6))", "DELETE FROM secrets WHERE name = 'mine'"),
		row("a row deleted", "row_missing", verify.Wrong, "CREATE TEMPORARY TABLE kept SELECT * FROM templates; DELETE FROM templates",
			"INSERT INTO templates SELECT * FROM kept; DROP TEMPORARY TABLE kept"),
		row("checkpoint too far", "checkpoint_ahead", verify.Critical, "UPDATE projection_checkpoint SET seq = seq + 5", "UPDATE projection_checkpoint SET seq = seq - 5"),
		row("checkpoint moved back", "checkpoint_behind", verify.Wrong, "UPDATE projection_checkpoint SET seq = seq - 3", "UPDATE projection_checkpoint SET seq = seq + 3"),
		row("checkpoint of another log", "checkpoint_other", verify.Critical, "CREATE TEMPORARY TABLE kept SELECT intent FROM projection_checkpoint; UPDATE projection_checkpoint SET intent = '"+stranger+"'",
			"UPDATE projection_checkpoint SET intent = (SELECT intent FROM kept); DROP TEMPORARY TABLE kept"),
		row("parked and need not be", "parked_extra", verify.Wrong, "INSERT INTO parked_events VALUES (3, 0, 'vm', 'x', 'vm.created.v1', 'planted', TRUE, NOW(6))", "DELETE FROM parked_events"),
		row("given up and need not be", "dropped_needlessly", verify.Warning, "INSERT INTO dropped_events VALUES (3, 0, 'vm', 'x', 'vm.created.v1', 'planted', 'why', 'ann', NOW(6))", "DELETE FROM dropped_events"),
		row("an index dropped", "index_missing", verify.Wrong, "ALTER TABLE vms DROP INDEX by_host", "ALTER TABLE vms ADD INDEX by_host (host)"),
		row("a strange table", "table_extra", verify.Warning, "CREATE TABLE notes (id INT)", "DROP TABLE notes"),
	}
}

// subject is where the document of a VM on a host is published.
func (r *rig) subject(vm, h string) string {
	return events.DesiredSubject(events.MachineID(r.ids[h]), document.KindDomain, r.ids[vm])
}

// rewrite changes the document of web1.
func rewrite(change func(d *document.Document)) func(*rig) func() {
	return func(r *rig) func() { return r.rewrite("web1", "host1", change)(r) }
}

// rewrite publishes a document that was changed, and mends it by publishing the right one again.
func (*rig) rewrite(vm, host string, change func(d *document.Document)) func(*rig) func() {
	return func(r *rig) func() {
		s, err := r.plane.JS.Stream(r.t.Context(), events.StreamDesired)
		must(r.t, err)
		subject := r.subject(vm, host)
		m, err := s.GetLastMsgForSubject(r.t.Context(), subject)
		must(r.t, err)
		d, err := document.Decode(m.Data)
		must(r.t, err)
		change(&d)
		raw, err := json.Marshal(d)
		must(r.t, err)
		return r.publish(subject, raw, m.Data)
	}
}

func (r *rig) publish(subject string, planted, right []byte) (mend func()) {
	_, err := r.plane.JS.Publish(r.t.Context(), subject, planted)
	must(r.t, err)
	return func() {
		_, err := r.plane.JS.Publish(context.Background(), subject, right)
		must(r.t, err)
	}
}

func documentFaults() []fault {
	doc := func(name, check string, plant func(*rig) func()) fault {
		return fault{name, verify.Desired, check, verify.Wrong, plant}
	}
	forget := func(r *rig, subject string) {
		s, err := r.plane.JS.Stream(context.Background(), events.StreamDesired)
		must(r.t, err)
		m, err := s.GetLastMsgForSubject(context.Background(), subject)
		must(r.t, err)
		must(r.t, s.DeleteMsg(context.Background(), m.Sequence))
	}
	return []fault{
		doc("a document overwritten", "document_changed", rewrite(func(d *document.Document) { d.Body = json.RawMessage(strings.Replace(string(d.Body), "64", "65", 1)) })),
		doc("a document of the future", "document_ahead", rewrite(func(d *document.Document) { d.Generation.Number += 1000 })),
		doc("a document of the past", "document_behind", rewrite(func(d *document.Document) { d.Generation.Number-- })),
		doc("a document for another boot", "document_boot", rewrite(func(d *document.Document) { d.Boot = stranger })),
		doc("a document of another VM", "document_misplaced", rewrite(func(d *document.Document) { d.ID = stranger })),
		doc("a document that cannot be read", "document_unreadable", func(r *rig) func() {
			mend := rewrite(func(*document.Document) {})(r)
			_, err := r.plane.JS.Publish(r.t.Context(), r.subject("web1", "host1"), []byte("{"))
			must(r.t, err)
			return mend
		}),
		doc("a document purged", "document_missing", func(r *rig) func() {
			mend := rewrite(func(*document.Document) {})(r)
			forget(r, r.subject("web1", "host1"))
			return mend
		}),
		doc("a document nobody decided", "document_extra", func(r *rig) func() {
			subject := r.subject("idle", "host2")
			_, err := r.plane.JS.Publish(r.t.Context(), subject, []byte(`{"version":1}`))
			must(r.t, err)
			return func() { forget(r, subject) }
		}),
	}
}

// stamped changes a node of web1's stamp.
func stamped(node string, value func(r *rig) string) func(*rig) func() {
	return func(r *rig) func() {
		was := r.hosts["host1"].stamp("web1", node, value(r))
		return func() { r.hosts["host1"].stamp("web1", node, was) }
	}
}

func is(value string) func(*rig) string { return func(*rig) string { return value } }

func stampFaults() []fault {
	live := func(name, check string, s verify.Severity, plant func(*rig) func()) fault {
		return fault{name, verify.Hosts, check, s, plant}
	}
	return []fault{
		live("a stamp too low", "stamp_low", verify.Critical, stamped("epoch", is("1.0"))),
		live("a stamp too high", "stamp_high", verify.Wrong, stamped("epoch", is("7.7"))),
		live("a stamp of another boot", "stamp_boot", verify.Wrong, stamped("boot", is(stranger))),
		live("a stamp that is not valid", "stamp_missing", verify.Wrong, stamped("restarts", is("many"))),
		live("a stamp of a VM without a grant", "domain_without_grant", verify.Critical, stamped("vm", func(r *rig) string { return r.ids["idle"] })),
		live("a stamp of a VM that is not there", "domain_of_no_vm", verify.Critical, stamped("vm", is(stranger))),
		live("a stamp of a VM of another host", "domain_granted_elsewhere", verify.Critical, stamped("vm", func(r *rig) string { return r.ids["web3"] })),
		live("a stamp that counts restarts", "restarts", verify.Wrong, stamped("restarts", is("3"))),
		live("a stamp left behind", "stamp_left", verify.Warning, func(r *rig) func() {
			h := r.hosts["host2"]
			domid := h.byHand(stranger, stranger, "1.1")
			must(r.t, h.tools.Act(context.Background(), host.ActDestroy, domid))
			return func() { h.forget(domid) }
		}),
	}
}

// changed changes web1's domain, or another's, by hand.
func changed(vm string, change func(d *host.Domain)) func(*rig) func() {
	return func(r *rig) func() {
		g := r.hosts["host1"].guest(vm)
		was := g.Domain
		change(&g.Domain)
		return func() { g.Domain = was }
	}
}

func domainFaults() []fault {
	live := func(name, check string, s verify.Severity, plant func(*rig) func()) fault {
		return fault{name, verify.Hosts, check, s, plant}
	}
	byHand := func(h, uuid string, stamp func(r *rig) (vm, epoch string)) func(*rig) func() {
		return func(r *rig) func() {
			vm, epoch := stamp(r)
			domid := r.hosts[h].byHand(uuid, vm, epoch)
			return func() {
				must(r.t, r.hosts[h].tools.Act(context.Background(), host.ActDestroy, domid))
				r.hosts[h].forget(domid)
			}
		}
	}
	none := func(*rig) (string, string) { return "", "" }
	web1 := func(r *rig) (string, string) { return r.ids["web1"], "1.1" }
	return []fault{
		live("a domain started by hand", "domain_unknown", verify.Wrong, byHand("host1", stranger, none)),
		live("a VM on two hosts", "two_hosts", verify.Critical, byHand("host2", stranger, web1)),
		live("a VM twice on its host", "twice", verify.Critical, byHand("host1", stranger, web1)),
		live("a domain destroyed by hand", "domain_missing", verify.Wrong, func(r *rig) func() {
			h := r.hosts["host1"]
			must(r.t, h.tools.Act(context.Background(), host.ActDestroy, h.guest("web1").DomID))
			return func() { // the agent makes it again
				h.thaw()
				r.clean()
				h.freeze()
			}
		}),
		live("paused by hand", "paused", verify.Wrong, changed("web1", func(d *host.Domain) { d.State = events.DomainPaused })),
		live("let run by hand", "not_paused", verify.Wrong, changed("web2", func(d *host.Domain) { d.State = events.DomainRunning })),
		live("a guest that is down", "down", verify.Wrong, changed("web1", func(d *host.Domain) { d.State, d.ShutdownReason = events.DomainCrashed, "crash" })),
		live("a domain that does not die", "domain_dying", verify.Warning, changed("web1", func(d *host.Domain) { d.State = events.DomainDying })),
		live("other memory", "memory", verify.Wrong, changed("web1", func(d *host.Domain) { d.MemoryMiB = 60 })),
		live("more memory than the host has", "memory_exceeded", verify.Wrong, changed("web1", func(d *host.Domain) { d.MemoryMiB = 2 * hostMiB })),
		live("other vCPUs", "vcpus", verify.Wrong, changed("web1", func(d *host.Domain) { d.VCPUs = 2 })),
		live("another weight", "weight", verify.Wrong, changed("web1", func(d *host.Domain) { d.Weight = 999 })),
		live("restarted behind the agent's back", "not_reported", verify.Wrong, func(r *rig) func() { // a new domain id, and the stamp copied
			h := r.hosts["host1"]
			g := h.guest("web1")
			was := g.DomID
			h.renumber(was, 77)
			return func() { h.renumber(77, was) }
		}),
	}
}

func agentFaults() []fault {
	answers := func(name, check string, s verify.Severity, change func(a *wire.InspectAnswer) error) fault {
		return fault{name, verify.Hosts, check, s, func(r *rig) func() {
			set := func(f func(events.MachineID, wire.InspectAnswer) (wire.InspectAnswer, error)) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.asked = f
			}
			set(func(id events.MachineID, a wire.InspectAnswer) (wire.InspectAnswer, error) {
				if string(id) != r.ids["host1"] {
					return a, nil
				}
				return a, change(&a)
			})
			return func() { set(nil) }
		}}
	}
	return []fault{
		answers("an agent that does not answer", "unanswered", verify.Unknown, func(*wire.InspectAnswer) error { return context.DeadlineExceeded }),
		answers("xenstored is dead", "unanswered", verify.Unknown, func(a *wire.InspectAnswer) error {
			a.Error = &events.Outcome{Message: "list stamps: connect to xenstored: connection refused"}
			return nil
		}),
		answers("an agent of another boot", "wrong_boot", verify.Wrong, func(a *wire.InspectAnswer) error { a.Boot = stranger; return nil }),
		answers("an agent with an old document", "agent_behind", verify.Wrong, func(a *wire.InspectAnswer) error { a.Whole.Documents[0].Generation.Number--; return nil }),
		answers("an agent with a document of the future", "agent_ahead", verify.Critical, func(a *wire.InspectAnswer) error { a.Whole.Documents[0].Generation.Term++; return nil }),
		answers("an agent that lacks a document", "agent_missing", verify.Wrong, func(a *wire.InspectAnswer) error { a.Whole.Documents = a.Whole.Documents[1:]; return nil }),
		answers("an agent with a document of nobody", "agent_extra", verify.Wrong, func(a *wire.InspectAnswer) error {
			a.Whole.Documents = append(a.Whole.Documents, events.DocumentReport{Kind: document.KindOrphan, ID: stranger})
			return nil
		}),
	}
}

func fileFaults() []fault {
	blob := func(name string, change func(path string) error) fault {
		return fault{name, verify.Files, "blob", verify.Wrong, func(r *rig) func() {
			path := filepath.Join(r.blobDir, r.kernel.SHA256)
			was, err := os.ReadFile(path)
			must(r.t, err)
			must(r.t, change(path))
			return func() { must(r.t, os.WriteFile(path, was, 0o600)) }
		}}
	}
	secret := func(name string, change func(r *rig, path string)) fault {
		return fault{name, verify.Files, "secret", verify.Wrong, func(r *rig) func() {
			path := filepath.Join(r.secretDir, "bmc.sealed")
			was, err := os.ReadFile(path)
			must(r.t, err)
			change(r, path)
			return func() { must(r.t, os.WriteFile(path, was, 0o600)) }
		}}
	}
	bmc := func(name, check, says string, s verify.Severity) fault {
		return fault{name, verify.Power, check, s, func(r *rig) func() {
			set := func(s string) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.powers[r.ids["host1"]] = s
			}
			set(says)
			return func() { set(events.PowerIsOn) }
		}}
	}
	return []fault{
		blob("a template's file cut short", func(path string) error { return os.Truncate(path, 3) }),
		blob("a template's file gone", os.Remove),
		blob("a template's file changed", func(path string) error {
			b, err := os.ReadFile(path)
			b[0]++
			return errors.Join(err, os.WriteFile(path, b, 0o600))
		}),
		secret("a secret gone", func(r *rig, path string) { must(r.t, os.Remove(path)) }),
		secret("a secret that cannot be opened", func(r *rig, path string) { writeFile(r.t, path, strings.Repeat("x", 60)) }),
		secret("another value of a secret", func(r *rig, _ string) {
			fingerprint, err := r.secrets.Seal("bmc", []byte("other"))
			must(r.t, err)
			must(r.t, r.secrets.Use("bmc", fingerprint))
		}),
		bmc("a machine without power that is believed up", "power", events.PowerIsOff, verify.Wrong),
		bmc("a BMC that does not answer", "unanswered", "", verify.Unknown),
	}
}
