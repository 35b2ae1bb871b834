package schemas_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"cloudengine/commands"
	"cloudengine/events"
)

// good holds arguments that are right, by verb: the first of each with all of its fields.
var good = map[string][]string{
	"account.create": {`{"name":"acme"}`, `{"name":"a"}`},
	"account.delete": {`{"account":"` + accountID + `"}`},
	"user.create":    {`{"name":"ann","key":"` + publicKey + `","role":"operate","account":"` + accountID + `"}`, `{"name":"bob","key":"` + publicKey + `","role":"admin"}`},
	"user.revoke":    {`{"user":"` + vmID + `"}`},
	"secret.set":     {`{"name":"rack1-bmc","fingerprint":"4be2f1c09ad37c51"}`},
	"template.create": {
		`{"name":"tiny","account":"` + accountID + `","type":"kernel","kernel":{"sha256":"` + digest + `","size":8421376},"ramdisk":{"sha256":"` + digest + `","size":1},"cmdline":"console=hvc0 root=/dev/ram0 x=[1]","min_memory_mib":64,"disk":{"sha256":"` + digest + `","size":68719476736},"disk_bytes":1099511627776,"disk_content_sha256":"` + digest + `"}`,
		`{"name":"unikernel","type":"kernel","kernel":{"sha256":"` + digest + `","size":1073741824},"min_memory_mib":1}`,
		`{"name":"debian","type":"disk","disk":{"sha256":"` + digest + `","size":68719476736},"disk_bytes":1099511627776,"min_memory_mib":1}`,
	},
	"template.delete": {`{"template":"` + vmID + `"}`},
	"template.import": {`{"template":"` + vmID + `","array":"` + vmID + `"}`},
	"machine.add": {
		`{"name":"host1","macs":["52:54:00:12:34:56","a0:b1:c2:d3:e4:f5"],"serial":"CZ3429A7XK","roles":["host"],"bmc":{"address":"10.77.1.11:623","user":"admin","secret":"bmc"}}`,
		`{"name":"host2","macs":["52:54:00:12:34:56"],"roles":["host"],"bmc":{"address":"[fd00::11]:65535","user":"0123456789abcdef","secret":"bmc"}}`,
		`{"name":"host3","macs":["52:54:00:12:34:56"],"roles":["host"],"bmc":{"address":"bmc3.rack.example:1","user":"a","secret":"bmc"}}`,
		`{"name":"host4","macs":["52:54:00:12:34:56"],"roles":["host"]}`,
	},
	"machine.remove": {`{"machine":"` + machineID + `"}`},
	"machine.power": {`{"machine":"` + machineID + `","action":"on"}`, `{"machine":"` + machineID + `","action":"off"}`,
		`{"machine":"` + machineID + `","action":"cycle"}`, `{"machine":"` + machineID + `","action":"status"}`},
	"log.open":                 {`{"term":2,"cause":"reopened"}`},
	"log.settle":               {`{"term":2}`},
	"log.raise_level":          {`{"level":2}`},
	"server.remove":            {`{"server":"s3"}`},
	"fabric.create":            {`{"name":"san","transport":"srp","subnet":"10.77.2.0/24","mtu":4200}`, `{"name":"san2","transport":"iscsi","subnet":"10.0.0.0/8"}`},
	"fabric.delete":            {`{"fabric":"` + vmID + `"}`},
	"fabric.join":              {`{"fabric":"` + vmID + `","machine":"` + machineID + `","mac":"52:54:00:12:34:56","address":"10.77.2.11"}`, `{"fabric":"` + vmID + `","machine":"` + machineID + `","mac":"52:54:00:12:34:56"}`},
	"fabric.leave":             {`{"fabric":"` + vmID + `","machine":"` + machineID + `"}`},
	"pool.create":              {`{"name":"gold","fabric":"` + vmID + `","redundancy":2,"extent_mib":4}`, `{"name":"gold","fabric":"` + vmID + `"}`},
	"pool.delete":              {`{"pool":"` + vmID + `"}`},
	"array.create":             {`{"name":"gold1","pool":"` + vmID + `","disks":["` + vmID + `","` + bootID + `"],"sets":2}`, `{"name":"gold1","pool":"` + vmID + `","sets":2}`},
	"array.delete":             {`{"array":"` + vmID + `"}`},
	"array.replace_leg":        {`{"array":"` + vmID + `","disk":"` + bootID + `","with":"` + machineID + `"}`, `{"array":"` + vmID + `","disk":"` + bootID + `"}`},
	"array.cancel_replacement": {`{"array":"` + vmID + `"}`},
	"machine.drain":            {`{"machine":"` + machineID + `"}`},
	"machine.undrain":          {`{"machine":"` + machineID + `"}`},
	"array.failover":           {`{"array":"` + vmID + `","to":"` + machineID + `","fence":true}`, `{"array":"` + vmID + `"}`},
	"volume.create":            {`{"account":"` + accountID + `","name":"data","pool":"` + vmID + `","size_mib":67108864,"template":"` + vmID + `"}`, `{"account":"` + accountID + `","name":"data","pool":"` + vmID + `","size_mib":0}`},
	"volume.grow":              {`{"volume":"` + vmID + `","size_mib":100}`},
	"volume.limit":             {`{"volume":"` + vmID + `","read_bps":20971520,"write_bps":0,"read_iops":0,"write_iops":300}`},
	"volume.attach":            {`{"volume":"` + vmID + `","vm":"` + bootID + `","slot":"xvdb"}`, `{"volume":"` + vmID + `","vm":"` + bootID + `"}`},
	"volume.detach":            {`{"volume":"` + vmID + `"}`},
	"volume.delete":            {`{"volume":"` + vmID + `"}`},
	"host.cordon":              {`{"host":"` + machineID + `"}`},
	"host.uncordon":            {`{"host":"` + machineID + `"}`},
	"host.stop_orphan":         {`{"host":"` + machineID + `","uuid":"` + vmID + `"}`},
	"host.adopt_orphan":        {`{"host":"` + machineID + `","uuid":"` + bootID + `","vm":"` + vmID + `"}`},
	"array.set_resync":         {`{"array":"` + vmID + `","limit_kib":20480,"no_limit":true,"pause":true,"resume":true}`, `{"array":"` + vmID + `","no_limit":true,"resume":true}`, `{"array":"` + vmID + `","limit_kib":0}`},
	"array.check":              {`{"array":"` + vmID + `","stop":true}`, `{"array":"` + vmID + `"}`},
	"pool.set":                 {`{"pool":"` + vmID + `","check_hours":0}`, `{"pool":"` + vmID + `","check_hours":8760}`},
	"network.create":           {`{"account":"` + accountID + `","name":"back","fabric":"` + vmID + `","mtu":1450}`, `{"account":"` + accountID + `","name":"back","mtu":0}`},
	"network.delete":           {`{"network":"` + vmID + `"}`},
	"subnet.create": {
		`{"network":"` + vmID + `","name":"back4","cidr":"10.0.0.0/24","first":"10.0.0.9","last":"10.0.0.99"}`, `{"network":"` + vmID + `","name":"back6","cidr":"fd00:1::/64"}`,
	},
	"subnet.delete":  {`{"subnet":"` + vmID + `"}`},
	"subnet.reserve": {`{"subnet":"` + vmID + `","address":"10.0.0.9"}`},
	"subnet.release": {`{"subnet":"` + vmID + `","address":"fd00:1::9"}`},
	"nic.create": {
		`{"vm":"` + vmID + `","network":"` + bootID + `","slot":"eth3","mac":"00:16:3e:00:00:01","addresses":["10.0.0.9","fd00:1::9"]}`, `{"vm":"` + vmID + `","network":"` + bootID + `"}`,
	},
	"nic.limit":  {`{"nic":"` + vmID + `","in_bps":12500000,"out_bps":0}`, `{"nic":"` + vmID + `","out_bps":125000}`},
	"nic.delete": {`{"nic":"` + vmID + `"}`},
	"vm.create": {
		`{"account":"` + accountID + `","name":"web1","type":"hvm","vcpus":128,"max_vcpus":128,"memory_mib":16777216,"template":"` + vmID + `","cmdline":"quiet","keys":["ssh-ed25519 AAAA a@b c"],"pool":"` + vmID + `","disk_mib":67108864,"network":"` + vmID + `"}`,
		`{"account":"` + accountID + `","name":"web1","type":"pv","vcpus":0,"memory_mib":1,"template":"` + vmID + `","cmdline":""}`,
		`{"account":"` + accountID + `","name":"` + strings.Repeat("w", 63) + `","type":"pv","memory_mib":64,"template":"` + vmID + `"}`,
	},
	"vm.start":    {`{"vm":"` + vmID + `","host":"` + machineID + `"}`, `{"vm":"` + vmID + `"}`},
	"vm.shutdown": {`{"vm":"` + vmID + `","timeout_s":3600}`, `{"vm":"` + vmID + `","timeout_s":0}`, `{"vm":"` + vmID + `"}`},
	"vm.stop":     {`{"vm":"` + vmID + `"}`},
	"vm.reboot":   {`{"vm":"` + vmID + `"}`},
	"vm.pause":    {`{"vm":"` + vmID + `"}`},
	"vm.resume":   {`{"vm":"` + vmID + `"}`},
	"vm.delete":   {`{"vm":"` + vmID + `"}`},
	"vm.resize":   {`{"vm":"` + vmID + `","memory_mib":4096,"vcpus":2,"max_vcpus":8}`, `{"vm":"` + vmID + `","vcpus":128}`},
}

func check(verb string, args []byte) error {
	kind, v, _ := strings.Cut(verb, ".")
	return commands.Check(commands.Command{Intent: intentID, Actor: "ann", Kind: events.Kind(kind), Verb: v, Args: args})
}

// TestCommandsFitTheirSchemas holds schema and check against each other: on right arguments, and on each of them with one thing wrong.
func TestCommandsFitTheirSchemas(t *testing.T) {
	c := compiler(t)
	for _, v := range commands.Verbs() {
		if v.Role == "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			s := mustCompile(t, c, "commands/"+v.Name)
			if len(good[v.Name]) == 0 {
				t.Fatalf("%s has no right arguments in the table: add them", v.Name)
			}
			full := map[string]bool{}
			fields("", mustTree(t, []byte(good[v.Name][0])), full)
			for _, f := range properties("", s) {
				if !full[f] {
					t.Errorf("the first arguments of the table lack %s", f)
				}
			}
			for _, args := range good[v.Name] {
				if err := check(v.Name, []byte(args)); err != nil {
					t.Errorf("refused by the check: %v: %s", err, args)
				}
				if err := s.Validate(mustTree(t, []byte(args))); err != nil {
					t.Errorf("refused by the schema: %v: %s", err, args)
				}
				for _, m := range mutations(mustTree(t, []byte(args))) {
					compare(t, v.Name, s, m)
				}
			}
		})
	}
}

// compare: what the schema takes the check takes; what the check takes the schema takes too, but for empty values in the place of none.
func compare(t *testing.T, verb string, s *jsonschema.Schema, m mutation) {
	t.Helper()
	raw := mustJSON(t, m.value)
	byCheck, bySchema := check(verb, raw), s.Validate(m.value)
	if bySchema == nil && byCheck != nil {
		t.Errorf("%s: taken by the schema, refused by the check: %v: %s", m.what, byCheck, raw)
	}
	if byCheck == nil && bySchema != nil && !m.empty {
		t.Errorf("%s: taken by the check, refused by the schema: %v: %s", m.what, bySchema, raw)
	}
	if m.what == "unknown field" && (byCheck == nil || bySchema == nil) {
		t.Errorf("an unknown field is taken: check %v, schema %v: %s", byCheck, bySchema, raw)
	}
}

type mutation struct {
	what  string
	value any
	empty bool // null or an empty value stands where there was something
}

var wrongs = []any{
	"", "X Y", "-a", "a-", strings.Repeat("n", 64), "tab\there", `quo"te`, "back\\slash", strings.Repeat("c", 1025), "ünïcode", "kernel2", "pvx", "root",
	"52:54:00:12:34:5G", "01:00:5e:00:00:01", "host:0", "host:65536", "host", ":623", "[::1]",
	json.Number("-1"), json.Number("0"), json.Number("1"), json.Number("129"), json.Number("3601"), json.Number("16777217"), json.Number("1073741825"),
	json.Number("1.5"), json.Number("1e40"), true, []any{}, []any{"x"}, []any{json.Number("7")}, map[string]any{}, map[string]any{"a": "b"}, nil,
}

// mutations gives copies of a value with one thing changed: a field taken away, a field too many, a field with something else in it.
func mutations(v any) []mutation {
	var out []mutation
	switch v := v.(type) {
	case map[string]any:
		more := maps.Clone(v)
		more["surprise"] = "x"
		out = append(out, mutation{what: "unknown field", value: more})
		for name, old := range v {
			less := maps.Clone(v)
			delete(less, name)
			out = append(out, mutation{what: "without " + name, value: less})
			put := func(m mutation) {
				with := maps.Clone(v)
				with[name] = m.value
				out = append(out, mutation{m.what, with, m.empty})
			}
			for _, w := range wrongs {
				put(mutation{"something else as " + name, w, isEmpty(w)})
			}
			for _, m := range mutations(old) {
				put(m)
			}
		}
	case []any:
		out = append(out, mutation{what: "more elements", value: append(slices.Clone(v), slices.Repeat(v, 16)...)})
		for i, old := range v {
			for _, m := range append(mutations(old), mutation{what: "null element"}) {
				with := slices.Clone(v)
				with[i] = m.value
				out = append(out, mutation{m.what, with, m.empty})
			}
		}
	}
	return out
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case map[string]any:
		return len(v) == 0
	}
	return false
}
