package verify

import (
	"fmt"
	"sort"

	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections"
)

// Live is what one host answered when it was asked.
type Live struct {
	Missing string // why there is no answer; then all else is empty
	Boot    string
	Domains []events.DomainReport
	Whole   bool // the rest was told too: older agents tell domains only
	Stamps  []events.StampReport
	Held    []events.DocumentReport
	Busy    []events.Ref
	Image   string // version of the boot image that it runs
}

// What to do about hosts.
const (
	nextAsk    = "\"cloudengine host inspect\" asks again; look at its console and network. Silence proves nothing: its VMs count as running until its power is proven off"
	nextPower  = "do not start its VMs: switch it off again (\"cloudengine machine power off\") and find out who switched it on, and whether its BMC is another machine's"
	nextBoot   = "wait for its enrolment; if it stays so, boot it again over the network (\"cloudengine machine power cycle\")"
	nextReport = "its reports do not get through: look at the agent's log (/run/cloudengine/noded.log there) and at the server's"
)

// Live compares what hosts answered with what the log says. Each machine that was asked is in live.
func (c *Cloud) Live(live map[events.MachineID]Live) []Finding {
	x := c.index()
	ids := keys(live)
	var out List
	for _, id := range ids {
		h := row[projections.Host](c, events.KindHost, string(id))
		if h == nil {
			continue // it was removed meanwhile
		}
		v := &visit{c: c, x: x, host: h, live: live[id], out: &out}
		v.compare()
	}
	out.Add(c.twice(live)...)
	return out.All
}

// index is what is needed of the rows for every host.
type index struct {
	grants     map[string][]*projections.Grant // live ones, by host
	operations map[string]*projections.Operation
}

func (c *Cloud) index() *index {
	x := &index{grants: map[string][]*projections.Grant{}, operations: c.operations()}
	for _, g := range rows[projections.Grant](c, projections.KindGrant) {
		if g.Live {
			x.grants[g.Host] = append(x.grants[g.Host], g)
		}
	}
	return x
}

// visit is the comparison of one host.
type visit struct {
	c    *Cloud
	x    *index
	host *projections.Host
	live Live
	out  *List
}

func (v *visit) find(f Finding) {
	f.Section = Hosts
	if f.Severity == "" {
		f.Severity = Wrong
	}
	v.out.Add(f)
}

func (v *visit) ofHost(s Severity, check, what, want, have, next string) {
	v.find(Finding{Severity: s, Check: check, Kind: "host", ID: v.host.ID, Name: v.host.Name, What: what, Want: want, Have: have, Next: next,
		Moving: underWay(v.x.operations[v.host.ID])})
}

func (v *visit) compare() {
	h := v.host
	off := h.Boot == ""
	switch {
	case v.live.Missing != "" && off:
		return // its power is proven off, and nobody answers
	case v.live.Missing != "":
		v.unanswered()
		return
	case off:
		v.ofHost(Critical, "off_and_answers", "I5: its power was proven off, and its agent answers", "no answer", "boot "+v.live.Boot, nextPower)
		return
	case v.live.Boot != h.Boot:
		v.ofHost(Wrong, "wrong_boot", "its agent answers from another boot than the one that is enrolled", h.Boot, v.live.Boot, nextBoot)
		return
	}
	if h.Silent {
		v.ofHost(Wrong, "silent_and_answers", "the log says that nothing is heard of it, and it answers", "silent", "it answers", nextReport)
	}
	if !h.Ready {
		moving := underWay(v.x.operations[h.ID])
		if v.c.Now.Sub(h.ChangedAt) < recent {
			moving = "it came a moment ago"
		}
		v.find(Finding{Check: "not_ready", Kind: "host", ID: h.ID, Name: h.Name, What: "it has not reported completely in this boot and term: nothing is granted there",
			Want: "ready", Have: "not ready", Next: nextReport, Moving: moving})
	}
	if m := row[projections.Machine](v.c, events.KindMachine, h.ID); m != nil && m.Image != nil && v.live.Whole && *m.Image != v.live.Image {
		v.ofHost(Wrong, "image", "it runs another boot image than it enrolled with", *m.Image, v.live.Image, nextBoot)
	}
	v.domains()
	v.memory()
	if v.live.Whole {
		v.stamps()
		v.documents()
	}
}

// unanswered says what is not known.
func (v *visit) unanswered() {
	what := "it does not answer (" + v.live.Missing + ")"
	if n := len(v.x.grants[v.host.ID]); n > 0 {
		what += fmt.Sprintf(": what became of %d VMs there is not known", n)
	}
	v.find(Finding{Severity: Unknown, Check: "unanswered", Kind: "host", ID: v.host.ID, Name: v.host.Name, What: what, Have: "?", Next: nextAsk})
}

// memory holds what domains have against what the host may give (I4).
func (v *visit) memory() {
	sum := 0
	for _, d := range v.live.Domains {
		sum += d.MemoryMiB
	}
	if int64(sum) > v.host.AllocatableMiB {
		v.ofHost(Wrong, "memory_exceeded", "I4: its domains have more memory than it can give", fmt.Sprintf("at most %d MiB", v.host.AllocatableMiB), fmt.Sprintf("%d MiB", sum),
			"stop or shrink domains there; \"cloudengine host inspect\" lists them, \"cloudengine host cordon\" keeps new ones away")
	}
}

// documents compares what the agent holds with what it should have been told.
func (v *visit) documents() {
	held := map[events.Ref]bool{}
	find := func(d events.DocumentReport, severity Severity, check, what, want, have, next string) {
		v.find(Finding{Severity: severity, Check: check, Kind: "document", ID: events.DesiredSubject(events.MachineID(v.host.ID), d.Kind, d.ID),
			Name: v.c.object(d.Kind, d.ID) + " on " + v.host.Name, What: what, Want: want, Have: have, Next: next})
	}
	const again = "the agent does not follow DESIRED: look at its log; killing it (it starts again, VMs run on) makes it read all documents anew"
	for _, d := range v.live.Held {
		held[events.Ref{Kind: d.Kind, ID: d.ID}] = true
		want, ok := v.c.Docs.Document(events.DesiredSubject(events.MachineID(v.host.ID), d.Kind, d.ID))
		switch {
		case !ok:
			find(d, Wrong, "agent_extra", "the agent obeys a document of which the log knows nothing", "none", gen(d.Generation), nextStrange)
		case d.Generation.Compare(want.Generation) > 0:
			find(d, Critical, "agent_ahead", "the agent obeys a document that is newer than the log", gen(want.Generation), gen(d.Generation), nextAhead)
		case d.Generation.Compare(want.Generation) < 0:
			find(d, Wrong, "agent_behind", "the agent obeys an older document than the log wants", gen(want.Generation), gen(d.Generation), again)
		}
	}
	var missing []document.Document
	v.c.Docs.Each(func(_ string, d document.Document) {
		if string(d.Machine) == v.host.ID && d.Boot == v.live.Boot && !held[events.Ref{Kind: d.Kind, ID: d.ID}] {
			missing = append(missing, d)
		}
	})
	sort.Slice(missing, func(i, j int) bool { return missing[i].ID < missing[j].ID })
	for _, d := range missing {
		find(events.DocumentReport{Kind: d.Kind, ID: d.ID}, Wrong, "agent_missing", "the agent does not have the document", gen(d.Generation), "none", again)
	}
}

// twice finds VMs of which two hosts have a domain that is alive (I1).
func (c *Cloud) twice(live map[events.MachineID]Live) []Finding {
	at := map[string][]string{}
	for _, id := range keys(live) {
		once := map[string]bool{}
		for _, d := range live[id].Domains {
			vm := string(d.VM)
			if vm == "" {
				vm = d.UUID
			}
			if (d.State == events.DomainRunning || d.State == events.DomainPaused) && !once[vm] {
				once[vm] = true
				at[vm] = append(at[vm], c.host(string(id)))
			}
		}
	}
	var out List
	for _, vm := range keys(at) {
		if len(at[vm]) > 1 && row[projections.VM](c, events.KindVM, vm) != nil {
			out.Add(Finding{Section: Hosts, Severity: Critical, Check: "two_hosts", Kind: "vm", ID: vm, Name: c.vm(vm), What: fmt.Sprintf("I1: there are domains of it on %d hosts", len(at[vm])),
				Want: "one", Have: fmt.Sprint(at[vm]), Next: "destroy the one without the run grant at once: \"cloudengine vm show\" tells which host has the grant, \"cloudengine history vm\" how it came"})
		}
	}
	return out.All
}
