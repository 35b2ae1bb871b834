package rules

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// A pkg is what "go list" tells.
type pkg struct {
	ImportPath, Name, Doc, Dir    string
	Imports, TestImports, GoFiles []string
	XTestImports                  []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Dir,Imports,TestImports,XTestImports,GoFiles", "cloudengine/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read package list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

// only says who alone may import a module, and why.
var only = []struct {
	prefix string
	by     []string
	why    string
}{
	{"github.com/nats-io/nats-server", []string{"cloudengine/events/broker", "cloudengine/commands/dispatch/benchlog"}, "one place starts the server, the same way in production and tests (benchlog measures against a bare one)"},
	{"github.com/ThreeDotsLabs/watermill", []string{"cloudengine/events/feed"}, "watermill serves what hangs on FEED, not append, fold or projections"},
	{"github.com/go-sql-driver/mysql", []string{"cloudengine/projections/mysql"}, "one place opens the database and knows its dialect"},
	{"github.com/prometheus/client_golang", []string{"cloudengine/commands/cloudengine"}, "one place tells figures"},
	{"github.com/safchain/ethtool", []string{"cloudengine/workers/nic"}, "one place asks network cards"},
	{"github.com/bougou/go-ipmi", []string{"cloudengine/workers/power"}, "one place talks to BMCs"},
	{"github.com/u-root/mkuimage", []string{"cloudengine/bootimage"}, "u-root builds the image and nothing else"},
	{"github.com/u-root/gobusybox", []string{"cloudengine/bootimage"}, "u-root builds the image and nothing else"},
	{"github.com/kdomanski/iso9660", []string{"cloudengine/workers/seed"}, "one place writes seeds"},
	{"golang.org/x/mod", []string{"cloudengine/events/audit"}, "one place knows the tree of the log and its notes"},
	{"github.com/miekg/dns", []string{"cloudengine/workers/dns", "cloudengine/workers/benchguests"}, "one place answers names (benchguests measures against the bare library)"},
	{"github.com/mdlayher/packet", []string{"cloudengine/workers/dhcp"}, "one place sees frames"},
	{"github.com/vishvananda/netns", []string{"cloudengine/e2e/rack", "cloudengine/workers/network", "cloudengine/workers/gateway"}, "only the virtual rack, networks of accounts and their gateways have namespaces"},
}

// never lists forbidden imports between our own packages, with the reason.
var never = []struct{ from, to, why string }{
	{"cloudengine/events", "cloudengine/commands", "the vocabulary knows nobody"},
	{"cloudengine/events", "cloudengine/projections", "the vocabulary knows nobody"},
	{"cloudengine/events", "cloudengine/workers", "the vocabulary knows nobody"},
	{"cloudengine/projections", "cloudengine/commands", "projections read events only: what needs a decision is missing from the event"},
	{"cloudengine/projections", "cloudengine/workers", "projections read events only"},
	{"cloudengine/workers/host", "cloudengine/commands", "a machine's agent decides nothing"},
	{"cloudengine/workers/noded", "cloudengine/commands", "a machine's agent decides nothing"},
	{"cloudengine/workers", "cloudengine/projections", "a machine's agent reads DESIRED, not the database"},
	{"cloudengine/workers/host", "cloudengine/workers/power", "worker kinds do not know each other"},
	{"cloudengine/workers/power", "cloudengine/workers/host", "worker kinds do not know each other"},
	{"cloudengine/workers/noded", "cloudengine/events/broker", "the agent is small: no server inside"},
	{"cloudengine/bootimage", "cloudengine/commands", "the boot image is a fact of its version"},
}

// pure packages and the imports that would make them impure.
var (
	pure   = []string{"cloudengine/events", "cloudengine/events/desired", "cloudengine/events/audit", "cloudengine/commands", "cloudengine/projections/history", "cloudengine/projections/verify", "cloudengine/workers/host/plan"}
	impure = []string{"os", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "context", "os/exec", "database/sql", "github.com/nats-io/nats.go"}
)

func under(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

func TestImports(t *testing.T) {
	mains := map[string]bool{}
	all := packages(t)
	for _, p := range all {
		if p.Name == "main" {
			mains[p.ImportPath] = true
		}
	}
	for _, p := range all {
		for _, imp := range p.Imports {
			checkImport(t, p, imp, mains)
		}
	}
}

// TestDispatchDeclaresTheLogThatItNeeds: the loop itself knows no stream; commands/dispatch/plane joins the two.
func TestDispatchDeclaresTheLogThatItNeeds(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			if p.ImportPath == "cloudengine/commands/dispatch" && (imp == "cloudengine/events/journal" || imp == "cloudengine/events/broker") {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
		}
	}
}

func checkImport(t *testing.T, p pkg, imp string, mains map[string]bool) {
	t.Helper()
	if mains[imp] {
		t.Errorf("%s imports %s: nothing imports a main", p.ImportPath, imp)
	}
	for _, o := range only {
		if under(imp, o.prefix) && !underAny(p.ImportPath, o.by) {
			t.Errorf("%s imports %s: %s", p.ImportPath, imp, o.why)
		}
	}
	for _, n := range never {
		if under(p.ImportPath, n.from) && under(imp, n.to) {
			t.Errorf("%s imports %s: %s", p.ImportPath, imp, n.why)
		}
	}
	for _, name := range pure {
		if p.ImportPath != name {
			continue
		}
		for _, bad := range impure {
			if imp == bad {
				t.Errorf("%s imports %s: it is pure, and takes no I/O, clock, random, logger or context", p.ImportPath, imp)
			}
		}
	}
}

func underAny(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if under(path, p) {
			return true
		}
	}
	return false
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment: say what it does, promises and does not do", p.ImportPath)
		}
		for _, part := range strings.Split(p.ImportPath, "/") {
			switch part {
			case "util", "utils", "common", "helper", "helpers", "models", "misc", "internal":
				t.Errorf("%s: the folder's name says nothing", p.ImportPath)
			}
		}
	}
}
