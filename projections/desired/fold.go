// Package desired renders the DESIRED documents: what each machine is told should be there.
//
// Fold is pure: an ordered fold of the log gives documents whose bytes and generations are the same for the same history. It promises
// that at no time two machines have a document that lets them run one VM. Publisher is the edge: it follows the log and brings the
// stream to what the fold says, never an older document over a newer one. It decides nothing, and never takes a document away.
package desired

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

// Fold is the state of the renderer after some decisions. It is not safe for concurrent use.
type Fold struct {
	at      uint64 // number of the last decision
	vms     map[events.VMID]*vm
	docs    map[string]*document.Document // by subject
	frozen  map[events.Ref]bool           // an event of this object could not be applied
	boots   map[events.MachineID]string   // of the machines that are enrolled
	term    uint64
	storage storage
	nets    nets
	held    bool // the log was restored or reopened, and is not settled: what earlier terms granted is not said
}

// vm is what a document is made from.
type vm struct {
	data     events.VMCreated
	want     string
	restarts int
	grant    *grant
}

// grant is the live one.
type grant struct {
	host   events.MachineID
	boot   string
	epoch  events.Epoch
	ending string // told to end: it never runs again, whatever is wanted later
	adopt  string
	term   uint64                // in which it was granted
	size   events.VMGrantResized // what its domain shall have
	max    int                   // vCPUs that it is made with
}

var (
	// ErrTwoGrants says that the log grants a VM twice: nothing more is rendered for it.
	ErrTwoGrants = errors.New("a grant is live already")
	// ErrNoGrant says that the log changes a grant that is not live: nothing more is rendered for its VM.
	ErrNoGrant = errors.New("the grant is not live")
	// ErrFrozen says that an earlier event of an object could not be applied: its documents stay as they are.
	ErrFrozen = errors.New("its documents stay as they are")
	// ErrGap says that decisions are missing.
	ErrGap = errors.New("decisions are missing")
)

// NewFold is the state before the first decision.
func NewFold() *Fold {
	return &Fold{vms: map[events.VMID]*vm{}, docs: map[string]*document.Document{}, frozen: map[events.Ref]bool{},
		boots: map[events.MachineID]string{}, storage: newStorage(), nets: newNets()}
}

// At gives the number of the last decision that was applied.
func (f *Fold) At() uint64 { return f.at }

// Len gives the number of documents.
func (f *Fold) Len() int { return len(f.docs) }

// Document gives the document on a subject.
func (f *Fold) Document(subject string) (document.Document, bool) {
	d, ok := f.docs[subject]
	if !ok {
		return document.Document{}, false
	}
	return *d, true
}

// Each gives all documents to f, in no order.
func (f *Fold) Each(each func(subject string, d document.Document)) {
	for s, d := range f.docs {
		each(s, *d)
	}
}

// Apply applies the next decision and appends the subjects whose documents changed to changed, in the order of the events. The error
// tells of objects that were frozen by this decision, or is ErrGap; the rest of the decision was applied.
func (f *Fold) Apply(changed []string, r *events.Recorded) ([]string, error) {
	if r.Number != f.at+1 {
		return changed, fmt.Errorf("render decision %d after %d: %w", r.Number, f.at, ErrGap)
	}
	f.at = r.Number
	var errs []error
	for _, e := range r.Events {
		x := change{f, r, e, changed}
		if err := x.apply(); err != nil {
			f.frozen[e.Aggregate] = true
			errs = append(errs, fmt.Errorf("render %s of %s in decision %d: %w: %w", e.Type, e.Aggregate, r.Number, err, ErrFrozen))
		}
		changed = x.changed
	}
	return changed, errors.Join(errs...)
}

// change is one event on its way into documents.
type change struct {
	f       *Fold
	r       *events.Recorded
	e       events.Event
	changed []string
}

func (c *change) apply() error {
	if c.f.frozen[c.e.Aggregate] {
		return nil // it was said once
	}
	switch d := c.e.Data.(type) {
	case events.Unknown:
		if c.e.Aggregate.Kind == events.KindVM || c.e.Aggregate.Kind == events.KindHost || c.e.Aggregate.Kind == events.KindLog {
			return fmt.Errorf("event %s is not known to this version", d.Type)
		}
		return nil
	case events.LogOpened:
		c.newTerm(d)
	case events.LogSettled:
		c.settled()
	case events.MachineEnrolled:
		m := events.MachineID(c.e.Aggregate.ID)
		c.f.boots[m] = d.Boot
		c.tellTerm(m)
		c.tellStorage(m)
	case events.AccountCreated:
		c.f.nets.accounts[events.AccountID(c.e.Aggregate.ID)] = d.Name
	case events.MachineAdded:
		if len(d.Roles) > 0 {
			c.f.storage.roles[events.MachineID(c.e.Aggregate.ID)] = d.Roles[0]
		}
	case events.MachineRemoved:
		delete(c.f.boots, events.MachineID(c.e.Aggregate.ID))
	case events.HostOrphanStopWanted:
		c.orphan(events.MachineID(c.e.Aggregate.ID), d.Boot, d.UUID, document.Absent)
	case events.HostOrphanGone:
		c.withdraw(events.MachineID(c.e.Aggregate.ID), d.UUID)
	case events.VMCreated:
		c.f.vms[events.VMID(c.e.Aggregate.ID)] = &vm{data: d, want: events.WantStopped}
	case events.VMDeleted:
		delete(c.f.vms, events.VMID(c.e.Aggregate.ID)) // what was said of it stays said
	default:
		switch c.e.Aggregate.Kind {
		case events.KindVM:
			return c.vm(events.VMID(c.e.Aggregate.ID))
		case events.KindFabric, events.KindDisk, events.KindPool, events.KindArray, events.KindVolume:
			return c.store()
		case events.KindNetwork, events.KindSubnet, events.KindNIC:
			return c.net()
		}
	}
	return nil
}

func (c *change) vm(id events.VMID) error {
	v, ok := c.f.vms[id]
	if !ok {
		return errors.New("there is no such VM")
	}
	switch d := c.e.Data.(type) {
	case events.VMRunWanted:
		v.wanted(d)
	case events.VMRestartWanted:
		v.restarts = d.Restarts
	case events.VMRunGranted:
		if v.grant != nil {
			return fmt.Errorf("host %s, epoch %s: %w", v.grant.host, v.grant.epoch, ErrTwoGrants)
		}
		v.grant = &grant{host: d.Host, boot: d.Boot, epoch: d.Epoch, adopt: d.Adopt, term: c.f.term, max: d.MaxVCPUs,
			size: events.VMGrantResized{MemoryMiB: d.MemoryMiB, VCPUs: d.VCPUs, Resizes: d.Resizes}}
		v.restarts = 0 // they are counted under each grant
		if d.Adopt != "" {
			c.withdraw(d.Host, d.Adopt)
		}
		c.uses(id, d.Host, 1)
		c.plugs(id, d.Host, 1)
	case events.VMResized:
		v.data.MemoryMiB, v.data.VCPUs = d.MemoryMiB, d.VCPUs // of the next grant
		return nil
	case events.VMGrantResized:
		if v.grant == nil || v.grant.epoch != d.Epoch {
			return fmt.Errorf("epoch %s: %w", d.Epoch, ErrNoGrant)
		}
		v.grant.size = d
	case events.VMGrantEnded:
		// The host may come back, in the same boot, with a domain of this grant or an earlier one: it is told at once that none may be.
		absent := document.Domain{VM: id, Want: document.Absent, Epoch: d.Epoch}
		if v.grant != nil && d.Proof == events.ProofOverride { // what was adopted may be there still, without a stamp
			absent.Adopt = v.grant.adopt
		}
		if v.grant != nil {
			c.uses(id, v.grant.host, -1)
			defer c.plugs(id, v.grant.host, -1)
		}
		v.grant = nil
		c.put(d.Host, d.Boot, document.KindDomain, string(id), absent)
		return nil
	default:
		return nil
	}
	c.say(id, v)
	return nil
}

// say renders a live grant. While the log is not settled, a grant of an earlier term may have ended in the part that is lost, and the VM
// may run elsewhere: then there is no opinion, unless it shall end.
func (c *change) say(id events.VMID, v *vm) {
	if v.grant == nil {
		return
	}
	d := v.render(id)
	if d.Want != document.Absent {
		d.Disks, d.NICs = c.disksOf(id), c.nicsOf(id)
	}
	if c.f.held && v.grant.term < c.f.term && (d.Want == document.Running || d.Want == document.Paused) {
		d = document.Domain{VM: id}
	}
	c.put(v.grant.host, v.grant.boot, document.KindDomain, string(id), d)
}

// settled says again what was held back.
func (c *change) settled() {
	c.f.held = false
	ids := make([]events.VMID, 0, len(c.f.vms))
	for id := range c.f.vms {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		c.say(id, c.f.vms[id])
	}
	for _, id := range c.f.storage.arrayIDs() {
		c.sayArray(id)
	}
	c.sayWipes("")
}

// tellTerm tells a machine that the log is not in its first term: so it drops what lower ones said, and reports that it has.
func (c *change) tellTerm(m events.MachineID) {
	if c.f.term > 1 {
		c.put(m, c.f.boots[m], document.KindTerm, string(m), document.Term{Term: c.f.term})
	}
}

// wanted: what is wanted is stored apart from the grant; only the wish to stop touches the live one, and that for good.
func (v *vm) wanted(d events.VMRunWanted) {
	v.want = d.Want
	if g := v.grant; g != nil && d.Want == events.WantStopped && g.ending != events.StopDestroy {
		if g.ending = d.Stop; g.ending == "" {
			g.ending = events.StopShutdown
		}
	}
}

// render gives the document of a live grant.
func (v *vm) render(id events.VMID) document.Domain {
	g := v.grant
	if g.ending == events.StopDestroy { // an adopted domain is named, or one that has no stamp yet would pass for gone
		return document.Domain{VM: id, Want: document.Absent, Epoch: g.epoch, Adopt: g.adopt}
	}
	want := document.Running
	switch {
	case g.ending != "":
		want = document.Shutdown
	case v.want == events.WantPaused:
		want = document.Paused
	}
	return document.Domain{VM: id, Name: v.data.Name, Account: v.data.Account, Want: want, Epoch: g.epoch, Restarts: v.restarts, Type: v.data.Type,
		VCPUs: g.size.VCPUs, MemoryMiB: g.size.MemoryMiB, Weight: weight(g.size.MemoryMiB), Resizes: g.size.Resizes, MaxVCPUs: g.max, Kernel: v.data.Kernel, Ramdisk: v.data.Ramdisk,
		Cmdline: v.data.Cmdline, Adopt: g.adopt, Boot: boots(v.data.Boot), Seed: v.seed()}
}

// boots gives the document's word for what a VM boots from.
func boots(boot string) string {
	if boot == events.BootDisk {
		return document.BootDisk
	}
	return ""
}

// seed gives what the guest is told of itself. One that does not boot from its disk has nobody to read it.
func (v *vm) seed() *document.Seed {
	if v.data.Boot != events.BootDisk {
		return nil
	}
	return &document.Seed{Hostname: v.data.Name, Keys: v.data.Keys}
}

// weight is commands.Weight: the credit scheduler's weight follows RAM, a unit for each GiB, rounded up.
func weight(memoryMiB int) int { return max(1, (memoryMiB+1023)/1024) }

func (c *change) orphan(m events.MachineID, boot, uuid, want string) {
	c.put(m, boot, document.KindOrphan, uuid, document.Orphan{UUID: uuid, Want: want})
}

// withdraw takes back what was wanted of an orphan: it is gone, or it has become a VM's domain. An empty want is no opinion.
func (c *change) withdraw(m events.MachineID, uuid string) {
	if d, ok := c.f.docs[events.DesiredSubject(m, document.KindOrphan, uuid)]; ok {
		c.orphan(m, d.Boot, uuid, "")
	}
}

// put renders a document, and keeps it under a new generation if its bytes are new.
func (c *change) put(m events.MachineID, boot string, kind events.Kind, id string, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", body, err)) // plain structs
	}
	subject := events.DesiredSubject(m, kind, id)
	if have, ok := c.f.docs[subject]; ok && have.Boot == boot && string(have.Body) == string(b) {
		return
	}
	c.f.docs[subject] = &document.Document{Version: versionOf(body), Machine: m, Boot: boot, Kind: kind, ID: id, Generation: c.generation(), Body: b}
	c.changed = append(c.changed, subject)
}

// versionOf gives the lowest version of a document that can say this.
func versionOf(body any) int {
	d, ok := body.(document.Domain)
	switch {
	case ok && len(d.NICs) > 0:
		return document.VersionNICs
	case ok && (d.Boot != "" || d.Seed != nil):
		return document.VersionBoot
	case ok && len(d.Disks) > 0:
		return document.VersionDisks
	}
	return document.Version
}

func (c *change) generation() events.Generation {
	return events.Generation{Term: c.r.Term, Number: c.r.Number}
}

// newTerm says everything again: a machine that has seen a document of the new term takes none of the old, and documents of a log
// that was given up have to be outranked.
func (c *change) newTerm(opened events.LogOpened) {
	c.f.term, c.f.held = opened.Term, opened.Cause != events.CauseCreated
	for id, v := range c.f.vms {
		c.say(id, v)
	}
	for _, id := range c.f.storage.arrayIDs() {
		c.sayArray(id)
	}
	c.sayWipes("")
	for m := range c.f.boots {
		c.tellTerm(m)
	}
	for subject, d := range c.f.docs {
		if d.Generation.Term != opened.Term {
			d.Generation = c.generation()
			c.changed = append(c.changed, subject)
		}
	}
}

// Encode gives the bytes of a document as they are published.
func Encode(d document.Document) []byte {
	b, err := json.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("encode document %s/%s: %v", d.Kind, d.ID, err)) // its body is JSON that we made
	}
	return b
}
