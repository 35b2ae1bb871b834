package history

import (
	"sort"
	"strconv"
	"strings"

	"cloudengine/events"
)

// How one decision names another that it follows from, the strongest first.
const (
	ByCause     = "cause"     // a reaction: the control plane itself gave the number
	BySaid      = "said"      // a user gave the number as the cause of his intent
	ByOperation = "operation" // it ended or answered the operation that the other began
	ByToken     = "token"     // an enrolment with the token that the other served
	ByEpoch     = "epoch"     // it tells of the run that the other granted
	ByBoot      = "boot"      // it tells of the boot that the other enrolled
)

var rank = map[string]int{ByCause: 0, BySaid: 1, ByOperation: 2, ByToken: 3, ByEpoch: 4, ByBoot: 5}

// Link names an earlier decision.
type Link struct {
	Number uint64 `json:"number"`
	By     string `json:"by"` // ByCause …
}

// Linker finds what each decision of a log follows from. It is shown the log from its start; it keeps a key for each run grant, boot
// and operation that is not over.
type Linker struct{ made map[string]uint64 }

// NewLinker has seen nothing yet.
func NewLinker() *Linker { return &Linker{map[string]uint64{}} }

// Add gives the links of the next decision, the strongest first, each to another decision.
func (l *Linker) Add(e *Entry) []Link {
	var out []Link
	add := func(n uint64, by string) {
		if n > 0 && n < e.Number {
			out = append(out, Link{n, by})
		}
	}
	if n, err := strconv.ParseUint(e.Cause, 10, 64); err == nil {
		if isUser(e.Actor) {
			add(n, BySaid)
		} else {
			add(n, ByCause)
		}
	}
	for _, ev := range e.Events {
		if key, by := names(ev); key != "" && (by != ByBoot || !isUser(e.Actor)) {
			add(l.made[key], by)
		}
	}
	for _, ev := range e.Events {
		l.keep(e.Number, ev)
	}
	sort.SliceStable(out, func(i, j int) bool { return rank[out[i].By] < rank[out[j].By] })
	return once(out)
}

func isUser(actor string) bool {
	return !strings.HasPrefix(actor, "machine:") && !strings.HasPrefix(actor, "system:")
}

// once keeps the strongest link to each decision.
func once(links []Link) []Link {
	out, seen := links[:0], map[uint64]bool{}
	for _, x := range links {
		if !seen[x.Number] {
			seen[x.Number] = true
			out = append(out, x)
		}
	}
	return out
}

func operationKey(id string) string             { return "operation/" + id }
func runKey(vm string, e events.Epoch) string   { return "run/" + vm + "/" + e.String() }
func tokenKey(machine, sha string) string       { return "token/" + machine + "/" + sha }
func bootKey(machine, boot string) (key string) { return "boot/" + machine + "/" + boot }

// keep remembers what later decisions can name.
func (l *Linker) keep(number uint64, ev events.Event) {
	id := ev.Aggregate.ID
	switch d := ev.Data.(type) {
	case events.OperationStarted:
		l.made[operationKey(id)] = number
	case events.MachinePowerWanted: // its answer may come after the operation timed out
		l.made["power/"+string(d.Operation)] = number
	case events.OperationDone, events.OperationFailed, events.OperationTimedOut:
		delete(l.made, operationKey(id))
	case events.VMRunGranted:
		l.made[runKey(id, d.Epoch)] = number
	case events.MachineBootServed:
		l.made[tokenKey(id, d.TokenSHA256)] = number
	case events.MachineEnrolled:
		l.made[bootKey(id, d.Boot)] = number
	}
}

// names gives the key by which an event names an earlier decision.
func names(ev events.Event) (key, by string) {
	id := ev.Aggregate.ID
	switch d := ev.Data.(type) {
	case events.OperationDone, events.OperationFailed, events.OperationTimedOut:
		return operationKey(id), ByOperation
	case events.MachinePowerObserved:
		return "power/" + string(d.Operation), ByOperation
	case events.VMDomainObserved:
		return runKey(id, d.Epoch), ByEpoch
	case events.VMStepFailed:
		return runKey(id, d.Epoch), ByEpoch
	case events.VMGrantEnded:
		return runKey(id, d.Epoch), ByEpoch
	case events.VMStaleDomainFound:
		return runKey(id, d.Epoch), ByEpoch
	case events.VMStaleDomainEnded:
		return runKey(id, d.Epoch), ByEpoch
	case events.VMGrantResized:
		return runKey(id, d.Epoch), ByEpoch
	case events.MachineEnrolled:
		return tokenKey(id, d.TokenSHA256), ByToken
	}
	if boot := bootOf(ev); boot != "" {
		return bootKey(id, boot), ByBoot
	}
	return "", ""
}

// bootOf gives the boot that a report is about.
func bootOf(ev events.Event) string {
	switch d := ev.Data.(type) {
	case events.MachineSilent:
		return d.Boot
	case events.MachineReturned:
		return d.Boot
	case events.MachineContradicted:
		return d.Boot
	case events.HostRegistered:
		return d.Boot
	case events.HostReady:
		return d.Boot
	case events.HostOrphanFound:
		return d.Boot
	case events.HostOrphanGone:
		return d.Boot
	}
	return ""
}
