package verify

import (
	"fmt"
	"slices"
	"sort"
)

// The sections of a verification.
const (
	Log      = "log"      // the chain and the invariants of the log
	Rows     = "rows"     // the read models in the database
	Desired  = "desired"  // the documents that machines are told
	Hosts    = "hosts"    // what hosts answer live
	Storage  = "storage"  // what storage nodes and proxies answer live
	Networks = "networks" // what hosts answer live of networks
	Files    = "files"    // files of templates, sealed values of secrets
	Power    = "power"    // what BMCs answer live
)

// Severity says how bad a finding is.
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical" // a promise of the platform is broken
	Wrong    Severity = "error"    // something is not what the log says
	Warning  Severity = "warning"  // as the log says, but someone has to decide
	Unknown  Severity = "?"        // it could not be asked: it may be right or wrong
	Note     Severity = "note"     // as people decided, and nothing is to be done
	Settling Severity = "settling" // a difference that was moving while it was looked at: look again
)

// Finding is one difference.
type Finding struct {
	Section  string   `json:"section"`
	Severity Severity `json:"severity"`
	Check    string   `json:"check"` // what was compared, a word for programs
	Kind     string   `json:"kind"`  // of the object
	ID       string   `json:"id"`
	Name     string   `json:"name,omitempty"` // as people call the object
	What     string   `json:"what"`
	Want     string   `json:"want,omitempty"`
	Have     string   `json:"have,omitempty"`
	Next     string   `json:"next"`             // what to do
	Moving   string   `json:"moving,omitempty"` // why it may only be on its way
}

// Object names what the finding is about, as people do.
func (f Finding) Object() string {
	if f.Name != "" {
		return f.Kind + " " + f.Name
	}
	return f.Kind + " " + f.ID
}

// key is the same for the same difference in two looks.
func (f Finding) key() [7]string {
	return [7]string{f.Section, f.Check, f.Kind, f.ID, f.What, f.Want, f.Have}
}

// changed explains a difference that was not the same in every look.
const changed = "it was different a moment ago"

// Steady gives what the last of several looks found: as it is, if every look found the same and nothing is under way that explains it,
// and else as Settling. Who did not answer in the last look is not known, whatever was before. Looks are in the order of time.
func Steady(looks [][]Finding) []Finding {
	if len(looks) == 0 {
		return nil
	}
	times := map[[7]string]int{}
	for _, look := range looks {
		once := map[[7]string]bool{}
		for _, f := range look {
			if k := f.key(); !once[k] {
				once[k] = true
				times[k]++
			}
		}
	}
	var out []Finding
	for _, f := range looks[len(looks)-1] {
		if f.Severity == Unknown {
			out = append(out, f)
			continue
		}
		if f.Moving == "" && times[f.key()] < len(looks) {
			f.Moving = changed
		}
		if f.Moving != "" {
			f.Severity = Settling
		}
		out = append(out, f)
	}
	return out
}

// Doubtful says whether a difference was not the same in every look and nothing is known that explains it: another look may tell.
func Doubtful(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Moving == changed })
}

var order = map[Severity]int{Critical: 0, Wrong: 1, Unknown: 2, Warning: 3, Note: 4, Settling: 5}

// Sort puts the worst first; within a severity findings keep the order of sections and objects.
func Sort(all []Finding) {
	sort.SliceStable(all, func(i, j int) bool { return order[all[i].Severity] < order[all[j].Severity] })
}

// Clean says whether nothing was found and everything answered. Notes, and what is settling, are neither.
func Clean(all []Finding) bool {
	for _, f := range all {
		if f.Severity != Settling && f.Severity != Note {
			return false
		}
	}
	return true
}

// List gathers findings up to a limit, and counts the rest.
type List struct {
	Limit int // 0: none
	All   []Finding
	More  int // that were left out
}

// Add keeps a finding, or counts it.
func (l *List) Add(f ...Finding) {
	for _, x := range f {
		if l.Limit > 0 && len(l.All) >= l.Limit {
			l.More++
			continue
		}
		l.All = append(l.All, x)
	}
}

func quote(s *string) string {
	if s == nil {
		return "NULL"
	}
	if len(*s) > 120 {
		return fmt.Sprintf("%.117q…", *s)
	}
	return fmt.Sprintf("%q", *s)
}
