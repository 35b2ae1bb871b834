package workers

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sort"
	"strconv"
	"sync"
	"time"

	"cloudengine/events"
)

// EndKey names one end of one grant, as told for one document. How it ended is not part of it.
type EndKey struct {
	VM         events.VMID
	Epoch      events.Epoch
	Generation events.Generation
}

// KeyOf gives the key of an end.
func KeyOf(e events.DomainEnded) EndKey { return EndKey{e.VM, e.Epoch, e.Generation} }

// maxEnded bounds the ends in one report; the rest follow in the next.
const maxEnded = 200

// Reporter sends what a loop publishes, and repeats each report with the same bytes until it is answered.
type Reporter struct {
	Machine   events.MachineID
	Boot      string
	Capacity  func() *events.Capacity // goes into complete reports; may be nil
	Next      func() (uint64, error)  // the next counter; must never give one twice in this boot, whatever is killed
	Send      func(ctx context.Context, counter uint64, body []byte) (events.Answer, error)
	Drain     func()                     // asks the loop for a complete snapshot
	Answered  func([]events.DomainEnded) // these ends need not be told again
	Forgotten func()                     // all ends have to be told again; may be nil
	Log       *slog.Logger
	Retry     time.Duration // first wait before a report is repeated; doubles up to 5 s; 100 ms

	once   sync.Once
	notice chan struct{}

	mu      sync.Mutex
	latest  *Snapshot
	due     bool                           // a complete report
	full    *Snapshot                      // the one that it will tell: the first complete look since it was due
	telling *Snapshot                      // the one that is under way
	pending map[string]events.DomainReport // seen and not told, even if it is gone since
	sent    map[string]events.DomainReport
	failed  map[string]events.StepFailed
	ended   map[EndKey]bool
	term    uint64 // the highest of the documents
	cuts    uint64 // how often the connection was lost
	cut     uint64 // how often before the report that is under way
	apart   bool   // the ends go without the domains once: the report that held both was refused
}

func (r *Reporter) init() {
	r.once.Do(func() {
		r.notice = make(chan struct{}, 1)
		r.sent, r.pending = map[string]events.DomainReport{}, map[string]events.DomainReport{}
		r.failed, r.ended = map[string]events.StepFailed{}, map[EndKey]bool{}
		r.Retry = or(r.Retry, 100*time.Millisecond)
	})
}

func (r *Reporter) signal() {
	select {
	case r.notice <- struct{}{}:
	default:
	}
}

// Offer takes the newest snapshot. What it shows of a domain is told even if the domain is gone a moment later: a domain whose grant
// is over, for one.
func (r *Reporter) Offer(s Snapshot) {
	r.init()
	r.note(s)
	r.signal()
}

func (r *Reporter) note(s Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest = &s
	if s.Term > r.term { // the log was restored: what is here has to be told anew
		r.term, r.due, r.full = s.Term, true, nil
		clear(r.sent)
	}
	now := keyed(s.Domains)
	for k, d := range now {
		if have, told := r.sent[k]; !told || have != d {
			r.pending[k] = d
		} else if !r.pending[k].Stale {
			delete(r.pending, k)
		}
	}
	if s.Complete && r.vanished(now) {
		r.due = true
	}
	if s.Complete && r.due && r.full == nil {
		r.full = &s
	}
}

// Complete asks for a complete report: every minute.
func (r *Reporter) Complete() {
	r.init()
	r.mu.Lock()
	r.due, r.full = true, nil
	r.mu.Unlock()
	r.Drain()
}

// Disconnected says that the control plane may have lost sight of this machine. All that is seen from now on is told again, and a
// complete report follows. Ends too: a server that was cut off, and did not know yet that the grant had to end, may have answered.
func (r *Reporter) Disconnected() {
	r.init()
	r.mu.Lock()
	if r.Forgotten != nil {
		r.Forgotten()
	}
	clear(r.ended)
	clear(r.sent)
	r.cuts++
	r.due, r.full = true, nil
	r.mu.Unlock()
	r.Drain()
}

// Run sends until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	r.init()
	for {
		for {
			rep := r.next()
			if rep == nil {
				break
			}
			if err := r.deliver(ctx, rep); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.notice:
		}
	}
}

// next builds the next report, or none if there is nothing new.
func (r *Reporter) next() *events.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.latest
	if s == nil {
		return nil
	}
	rep := &events.Report{Machine: r.Machine, Boot: r.Boot}
	r.telling, r.cut = nil, r.cuts
	if r.apart {
		r.apart = false
		if rep.Ended = r.ends(s, nil); len(rep.Ended) > 0 {
			return rep
		}
	}
	if r.full != nil && !r.passed(r.full) {
		r.telling = r.full
		rep.Complete, rep.Domains, rep.Term = true, r.full.Domains, r.full.Term
		if r.Capacity != nil {
			rep.Capacity = r.Capacity()
		}
	} else {
		rep.Domains = sortedDomains(r.pending)
	}
	rep.Ended = r.ends(s, rep.Domains)
	for _, f := range s.Failed {
		if r.failed[f.Object.String()] != f {
			rep.Steps = append(rep.Steps, f)
		}
	}
	if !rep.Complete && len(rep.Domains)+len(rep.Ended)+len(rep.Steps) == 0 {
		return nil
	}
	return rep
}

// passed says whether something was seen, and not told, that is gone in s: it is told first.
func (r *Reporter) passed(s *Snapshot) bool {
	now := keyed(s.Domains)
	for k := range r.pending {
		if _, ok := now[k]; !ok {
			return true
		}
	}
	return false
}

// ends lists the ends that were not answered. One report never says of a domain that it is there and that it has ended: the end
// follows in the next.
func (r *Reporter) ends(s *Snapshot, there []events.DomainReport) []events.DomainEnded {
	type grant struct {
		vm    events.VMID
		epoch events.Epoch
	}
	present := map[grant]bool{}
	for _, d := range append(sortedDomains(r.pending), there...) {
		present[grant{d.VM, d.Epoch}] = true
	}
	var out []events.DomainEnded
	for _, e := range s.Ended {
		if !r.ended[KeyOf(e)] && !present[grant{e.VM, e.Epoch}] && len(out) < maxEnded {
			out = append(out, e)
		}
	}
	return out
}

func sortedDomains(m map[string]events.DomainReport) []events.DomainReport {
	var out []events.DomainReport
	for _, d := range m {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].DomID < out[j].DomID })
	return out
}

func (r *Reporter) vanished(now map[string]events.DomainReport) bool {
	for k := range r.sent {
		if _, ok := now[k]; !ok {
			return true
		}
	}
	return false
}

// deliver repeats rep until it is answered.
func (r *Reporter) deliver(ctx context.Context, rep *events.Report) error {
	n, err := r.Next()
	if err != nil {
		return fmt.Errorf("count report: %w", err)
	}
	rep.Counter = n
	body, err := json.Marshal(rep)
	if err != nil {
		return fmt.Errorf("encode report %d: %w", n, err)
	}
	wait := r.Retry
	for {
		answer, err := r.Send(ctx, n, body)
		if err == nil && answer.Outcome.Code == events.CodeStale {
			return r.outdated(ctx, rep)
		}
		if err == nil && !again(answer.Outcome) {
			r.answered(rep, answer.Outcome)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.Log.Warn("report was not answered", "counter", n, "err", err, "code", answer.Outcome.Code)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// outdated drops a report that the control plane calls stale: a newer counter was taken, or another boot is enrolled. What it said
// is said again, after a while, under the next counter.
func (r *Reporter) outdated(ctx context.Context, rep *events.Report) error {
	r.Log.Error("report is stale, says the control plane", "counter", rep.Counter)
	r.mu.Lock()
	r.apart = holdsBoth(rep)
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * r.Retry):
		return nil
	}
}

// again says whether the same bytes must be sent again.
func again(o events.Outcome) bool {
	return o.Status == "" || o.Code == events.CodeBusy || o.Code == events.CodeUnavailable
}

func (r *Reporter) answered(rep *events.Report, o events.Outcome) {
	if o.Status == events.Refused {
		r.Log.Error("report was refused", "counter", rep.Counter, "code", o.Code, "message", o.Message)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut != r.cuts { // it may be the answer of a server that was cut off: all is told again
		return
	}
	if rep.Complete {
		clear(r.sent)
		if r.full == r.telling {
			r.due, r.full = false, nil
		}
	}
	for k, d := range keyed(rep.Domains) {
		r.sent[k] = d
		if r.pending[k] == d {
			delete(r.pending, k)
		}
	}
	if o.Status == events.Refused && holdsBoth(rep) { // for what it says of a domain, perhaps: no VM's end may be lost with it
		r.apart = true
		return
	}
	for _, e := range rep.Ended {
		r.ended[KeyOf(e)] = true
		for k, d := range r.sent {
			if d.VM == e.VM && d.Epoch == e.Epoch {
				delete(r.sent, k)
			}
		}
	}
	for _, f := range rep.Steps {
		r.failed[f.Object.String()] = f
	}
	if r.Answered != nil && len(rep.Ended) > 0 {
		r.Answered(rep.Ended)
	}
}

func holdsBoth(rep *events.Report) bool { return len(rep.Domains) > 0 && len(rep.Ended) > 0 }

// keyed indexes domains by UUID, so that one which was made again replaces itself.
func keyed(domains []events.DomainReport) map[string]events.DomainReport {
	out := make(map[string]events.DomainReport, len(domains))
	for _, d := range domains {
		k := d.UUID
		if _, twice := out[k]; twice {
			k += "#" + strconv.Itoa(d.DomID)
		}
		out[k] = d
	}
	return out
}

func sortFailed(f []events.StepFailed) {
	sort.Slice(f, func(i, j int) bool { return f[i].Object.String() < f[j].Object.String() })
}
