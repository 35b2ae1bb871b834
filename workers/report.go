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
	Machine  events.MachineID
	Boot     string
	Capacity func() *events.Capacity // goes into complete reports; may be nil
	Next     func() (uint64, error)  // the next counter; must never give one twice in this boot, whatever is killed
	Send     func(ctx context.Context, counter uint64, body []byte) (events.Answer, error)
	Drain    func()                     // asks the loop for a complete snapshot
	Answered func([]events.DomainEnded) // these ends need not be told again
	Log      *slog.Logger
	Retry    time.Duration // first wait before a report is repeated; doubles up to 5 s; 100 ms

	once   sync.Once
	notice chan struct{}

	mu     sync.Mutex
	latest *Snapshot
	due    bool // a complete report
	sent   map[string]events.DomainReport
	failed map[string]events.StepFailed
	ended  map[EndKey]bool
	stale  map[string]events.DomainReport // seen stale and not told yet
	told   map[string]bool                // stale ones that were told
}

func (r *Reporter) init() {
	r.once.Do(func() {
		r.notice = make(chan struct{}, 1)
		r.sent, r.failed = map[string]events.DomainReport{}, map[string]events.StepFailed{}
		r.ended, r.stale, r.told = map[EndKey]bool{}, map[string]events.DomainReport{}, map[string]bool{}
		r.Retry = or(r.Retry, 100*time.Millisecond)
	})
}

func (r *Reporter) signal() {
	select {
	case r.notice <- struct{}{}:
	default:
	}
}

// Offer takes the newest snapshot.
func (r *Reporter) Offer(s Snapshot) {
	r.init()
	r.mu.Lock()
	r.latest = &s
	for _, d := range s.Domains {
		if k := staleKey(d); d.Stale && !r.told[k] {
			r.stale[k] = d
		}
	}
	r.mu.Unlock()
	r.signal()
}

// Complete asks for a complete report: at each connect and every minute.
func (r *Reporter) Complete() {
	r.init()
	r.mu.Lock()
	r.due = true
	r.latest = nil // it may be older than the reason to ask
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
	now := keyed(s.Domains)
	if s.Complete && r.vanished(now) {
		r.due = true
	}
	rep := &events.Report{Machine: r.Machine, Boot: r.Boot, Complete: r.due && s.Complete}
	if rep.Complete {
		rep.Domains = s.Domains
		if r.Capacity != nil {
			rep.Capacity = r.Capacity()
		}
	} else {
		rep.Domains = r.changed(now)
	}
	for _, e := range s.Ended {
		if !r.ended[KeyOf(e)] && len(rep.Ended) < maxEnded {
			rep.Ended = append(rep.Ended, e)
		}
	}
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

// changed lists the domains that are not as they were last told, and the stale ones that nobody was told of.
func (r *Reporter) changed(now map[string]events.DomainReport) []events.DomainReport {
	var out []events.DomainReport
	listed := map[string]bool{}
	for k, d := range now {
		if r.sent[k] != d {
			out = append(out, d)
			listed[staleKey(d)] = true
		}
	}
	for k, d := range r.stale {
		if !listed[k] {
			out = append(out, d)
		}
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
	if o.Status == events.Refused && o.Code == events.CodeStale {
		return // a newer counter says it again
	}
	now := keyed(rep.Domains)
	if rep.Complete {
		r.sent, r.due = now, false
	}
	for k, d := range now {
		r.sent[k] = d
	}
	for _, d := range rep.Domains {
		if d.Stale {
			r.told[staleKey(d)] = true
			delete(r.stale, staleKey(d))
		}
	}
	for _, e := range rep.Ended {
		r.ended[KeyOf(e)] = true
		for k, d := range r.sent {
			if d.VM == e.VM {
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

func staleKey(d events.DomainReport) string { return d.UUID + "#" + strconv.Itoa(d.DomID) }

func sortFailed(f []events.StepFailed) {
	sort.Slice(f, func(i, j int) bool { return f[i].Object.String() < f[j].Object.String() })
}
