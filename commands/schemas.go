package commands

import (
	"encoding/json"
	"reflect"
	"sort"
)

// VerbInfo tells of one command what its published schema is made from.
type VerbInfo struct {
	Name     string       // kind.verb
	Args     reflect.Type // a struct
	Role     string       // least role of a user; empty: no user may
	Member   bool         // users that are bound to an account may, within it
	Internal []string     // actors that are not users; one that ends in ":" stands for all that begin so
}

// Verbs lists all commands by name.
func Verbs() []VerbInfo {
	out := make([]VerbInfo, 0, len(verbs))
	for name, e := range verbs {
		a, err := e.parse(json.RawMessage("{}"))
		if err != nil {
			panic("arguments of " + name + " cannot be read from {}: " + err.Error()) // no type of ours does that
		}
		out = append(out, VerbInfo{name, reflect.TypeOf(a), e.may.role, e.may.member, e.may.internal})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Limits are the bounds that Check holds arguments to, as far as a schema can say them.
type Limits struct {
	Name             string // regular expression of names
	VCPUs            int    // most
	DefaultVCPUs     int
	MemoryMiB        int // most
	ShutdownDefaultS int // seconds that a guest gets to shut down unless told otherwise
}

// ArgsLimits gives them.
func ArgsLimits() Limits {
	return Limits{nameForm.String(), maxVCPUs, defaultVCPUs, maxMemoryMiB, int(shutdownDefault.Seconds())}
}
